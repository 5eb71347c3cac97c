"""The text of an input and of the files that it names.

words        vectors, numbers, atom serials in words
limits       what no input may ask of a library: deep expressions, code, wide formats
named_files  where the files that it names are looked for, and their text
language     text to statements; PlumedInputError
moved        an input that is to be read from another folder
expressions  Lepton: read once, for numpy, torch and OpenMM
expression_slopes  their slopes at a point
selections   @mda: and @mdt: of MOLINFO, by the packages of those names
pdb          MOLINFO's selectors, references, models
index_files  groups of GROMACS index files
"""
