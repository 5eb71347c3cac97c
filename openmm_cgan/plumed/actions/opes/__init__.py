"""OPES_METAD and OPES_METAD_EXPLORE.

kernels     compressed kernels and their sum
neighbours  NLIST
opes        the actions
"""
