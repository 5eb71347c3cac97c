"""What is read from box vectors, and molecules made whole in them."""

import numpy as np
import pytest

from openmm_cgan.plumed.geometry.lattices import (
    BoxForm,
    form_of_box,
    nearest_image,
    shortest_vectors,
)
from openmm_cgan.plumed.geometry.molecules import Entity, entities_made_whole, whole
from openmm_cgan.plumed.geometry.vectors import shortest_image, vector_product

TRICLINIC = np.array([[3.0, 0, 0], [1.0, 2.8, 0], [-1.4, 1.2, 2.5]])
FORMS = {
    "along the axes": (np.diag([1.0, 2.0, 3.0]), BoxForm.RECTANGULAR),
    "reduced": (TRICLINIC, BoxForm.REDUCED),
    "as wide as it may be": (
        np.array([[2.0, 0, 0], [1.0, 1.7, 0], [1.0, 0.85, 1.6]]),
        BoxForm.REDUCED,
    ),
    "too skew": (np.array([[2.0, 0, 0], [1.2, 1.7, 0], [0, 0, 1.6]]), BoxForm.GENERAL),
    "turned": (TRICLINIC[:, [1, 2, 0]], BoxForm.GENERAL),
    "vectors in another order": (TRICLINIC[[2, 0, 1]], BoxForm.GENERAL),
    "left-handed": (np.array([[2.0, 0, 0], [0.5, -1.7, 0], [0, 0, 1.6]]), BoxForm.GENERAL),
    "many, along the axes": (np.array([np.eye(3)] * 4), BoxForm.RECTANGULAR),
    "many, some triclinic": (np.array([np.eye(3), TRICLINIC]), BoxForm.REDUCED),
}


@pytest.mark.parametrize(("box", "form"), FORMS.values(), ids=FORMS)
def test_the_form_of_a_box_is_read_from_its_vectors(box, form):
    assert form_of_box(box) is form


def test_a_tensor_has_the_form_of_its_array():
    import torch

    for box, form in FORMS.values():
        if form is not BoxForm.GENERAL:
            assert form_of_box(torch.as_tensor(box)) is form


def test_images_in_a_reduced_box_are_those_of_the_search_for_any_box():
    vectors = np.random.default_rng(1).uniform(-4, 4, size=(500, 3))
    for x in vectors:
        ours = np.array(shortest_image(tuple(x), TRICLINIC))
        np.testing.assert_allclose(ours, np.array(nearest_image(tuple(x), TRICLINIC)), atol=1e-12)


def shapes_of_boxes():
    rng = np.random.default_rng(3)
    boxes = [TRICLINIC[:, [1, 2, 0]], *rng.normal(size=(60, 3, 3))]
    boxes += [np.diag([1.0, 2.0, 3.0]), np.array([[0, 1.0, 1], [1, 0, 1], [1, 1, 0]])]
    boxes += [np.array([[-1.0, 1, 1], [1, -1, 1], [1, 1, -1]])]  # ties: many images as near
    return [box for box in boxes if abs(np.linalg.det(box)) > 0.1]


def test_no_image_is_shorter_in_boxes_of_any_form():
    """Against all images up to four vectors of the shortest form away."""
    rng = np.random.default_rng(4)
    steps = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), -1).reshape(-1, 3)
    for box in shapes_of_boxes():
        rows = shortest_vectors(box)
        x = rng.uniform(-2, 2, size=(30, 3)) @ box
        near = np.stack(nearest_image(tuple(x.T), box), -1)
        turns = (x - near) @ np.linalg.inv(box)
        np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)
        begin = x - np.round(x @ np.linalg.inv(rows)) @ rows
        all_images = begin[:, None] + steps @ rows
        shortest = np.sum(all_images**2, axis=-1).min(axis=1)
        np.testing.assert_allclose(np.sum(near**2, axis=-1), shortest, rtol=1e-10)


def test_images_as_near_as_others_are_found_and_the_search_ends():
    for box in shapes_of_boxes():
        corners = (np.indices((3, 3, 3)).reshape(3, -1).T / 2) @ box  # halfway, to the last digit
        near = np.stack(nearest_image(tuple(corners.T), box), -1)
        turns = (corners - near) @ np.linalg.inv(box)
        np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)


def test_the_order_of_the_vectors_plays_no_part():
    for x in np.random.default_rng(2).uniform(-4, 4, size=(200, 3)):
        ours = np.array(shortest_image(tuple(x), TRICLINIC))
        np.testing.assert_allclose(
            np.array(shortest_image(tuple(x), TRICLINIC[[2, 0, 1]])), ours, atol=1e-12
        )


def test_an_entity_is_kept_together_as_a_chain_or_in_the_pairs_of_its_tree():
    assert Entity((4, 2, 7)).groups == [(4, 2, 7)]
    assert Entity((4, 2, 7), roots=(0, 0)).groups == [(4, 2), (4, 7)]


@pytest.mark.parametrize("roots", [None, (0, 0, 1)], ids=["chain", "tree"])
def test_a_torn_molecule_is_made_whole_at_the_image_of_its_first_atom(roots):
    rng = np.random.default_rng(3)
    molecule = 1.0 + np.cumsum(rng.uniform(-0.4, 0.4, size=(4, 3)), axis=0)
    torn = molecule + rng.integers(-2, 3, size=(4, 3)) @ TRICLINIC
    atoms = (0, 1, 2, 3)
    expected = molecule - molecule[0] + torn[0]
    np.testing.assert_allclose(whole(atoms, torn, TRICLINIC, roots), expected, atol=1e-12)
    made = entities_made_whole((Entity(atoms, roots),), torn, TRICLINIC)
    np.testing.assert_allclose(made, expected, atol=1e-12)
    assert not np.shares_memory(made, torn)


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((5, 3), (3,)), ((2, 1, 3), (4, 3))])
def test_the_vector_product_is_numpys(shapes):
    a, b = (np.random.default_rng(len(shape)).normal(size=shape) for shape in shapes)
    np.testing.assert_array_equal(vector_product(a, b), np.cross(a, b))
