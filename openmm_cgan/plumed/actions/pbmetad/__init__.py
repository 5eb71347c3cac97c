"""PBMETAD: hills along each of many values by itself.

options  its keywords, and what a statement says by them
family   one sum of hills, which values of one kind may share
pbmetad  the bias of them all
"""
