"""Nilmeier's dimer in a dense WCA fluid: switches of its bond beside moves at once, and the truth.

Two particles of a fluid of 216 that only repel each other (WCA, argon's size, reduced density
0.96, 0.824 kT) are bonded in two states, compact and extended, with a barrier of 5 kT between
them. Dynamics alone rarely goes from one to the other; a move at once of the bond by the distance
of the two states meets a neighbour; one that is led there while the fluid makes room is accepted
[1]_.

The bond is led by the switches of mode="steered" with places z for a distance: q(z') draws the
other state evenly, and all is judged by min(1, q(z)/q(z') exp(-dH/kT)).

    acceptance   of switches of 0 (at once) to N steps from configurations of a biased run
    bond         its distribution with moves, against umbrella windows joined by MBAR

    python benchmarks/wca_dimer.py acceptance bond [--json FILE]

.. [1] J. P. Nilmeier, G. E. Crooks, D. D. L. Minh, J. D. Chodera, Proc. Natl. Acad. Sci. USA 108,
   E1009 (2011), doi 10.1073/pnas.1106094108.
"""
