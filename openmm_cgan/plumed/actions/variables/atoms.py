"""What depends on the positions of atoms, and what WHOLEMOLECULES does for it."""

from __future__ import annotations

from typing import Any, ClassVar

from openmm_cgan.plumed.actions.action import Action, Given, Scope
from openmm_cgan.plumed.geometry.molecules import Entity


class AtomAction(Action):
    """An action that depends on the positions of atoms: a variable, or a virtual atom.

    Attributes
    ----------
    periodic : bool
        Whether it takes nearest images, or makes its group whole, itself.
    entities_above : tuple of Entity
        Of the WHOLEMOLECULES above it.
    movers_above : tuple of Mover
        What has moved its atoms.
    """

    makes_whole: ClassVar[bool] = False  # its atoms first, unless NOPBC

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.periodic: bool = not given.options.get("NOPBC", False)
        self.entities_above: tuple[Entity, ...] = ()
        self.movers_above: tuple[Any, ...] = ()

    @property
    def sites(self) -> tuple[Any, ...]:
        """The atoms, and virtual atoms, that it depends on."""
        return ()

    def enter(self, scope: Scope) -> None:
        self.entities_above, self.movers_above = scope.entities, scope.movers
        if scope.molinfo_whole and self.makes_whole and self.periodic:
            self._take_atoms_as_they_are()
        super().enter(scope)

    def _take_atoms_as_they_are(self) -> None:
        """Leave it to WHOLEMOLECULES to make atoms whole.

        Below MOLINFO WHOLE, PLUMED 2.11 takes the atoms as they are, and older ones make them
        whole.
        """
        made_whole = {atom for entity in self.entities_above for atom in entity.atoms}
        if not made_whole.issuperset(self.sites):
            message = (
                "below MOLINFO WHOLE: natively with NOPBC or after WHOLEMOLECULES of its atoms"
            )
            raise self.not_native(self.name, f"{message}")
        self.periodic = False
