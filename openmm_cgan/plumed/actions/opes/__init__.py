"""OPES.

kernels     the sum of kernels, and how they are merged
neighbours  NLIST
options     the keywords, and what a statement says by them
settings    what follows from that at a temperature
widths      how wide a kernel is
opes        OPES_METAD, OPES_METAD_EXPLORE
"""
