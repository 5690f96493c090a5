import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tutti.augment.labels import Targets, presence_of, targets_convex, targets_of, targets_or

presences = st.lists(st.sampled_from([1, 0, -1]), min_size=4, max_size=4).map(
    lambda row: torch.tensor([row], dtype=torch.int8)
)
beliefs = st.lists(st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]), min_size=4, max_size=4)


def joint(first: Tensor, second: Tensor) -> Tensor:
    """OR of presence, as mixing computes it: by targets."""
    return presence_of(targets_or(targets_of(first), targets_of(second)))


def soft(row: list[float | None]) -> Targets:
    return Targets(
        torch.tensor([[value or 0.0 for value in row]]), torch.tensor([[value is not None for value in row]])
    )


def equal(first: Targets, second: Targets) -> bool:
    return torch.equal(first.target, second.target) and torch.equal(first.mask, second.mask)


def test_or_of_presence_is_this_table() -> None:
    first = torch.tensor([[1, 1, 1, 0, 0, 0, -1, -1, -1]], dtype=torch.int8)
    second = torch.tensor([[1, 0, -1, 1, 0, -1, 1, 0, -1]], dtype=torch.int8)
    assert joint(first, second).tolist() == [[1, 1, 1, 1, 0, -1, 1, -1, -1]]
    assert joint(first, second).dtype == torch.int8


@given(presences, presences, presences)
def test_or_of_presence_is_commutative_associative_and_idempotent(a: Tensor, b: Tensor, c: Tensor) -> None:
    assert torch.equal(joint(a, b), joint(b, a))
    assert torch.equal(joint(joint(a, b), c), joint(a, joint(b, c)))
    assert torch.equal(joint(a, a), a)


@given(presences)
def test_absent_is_neutral_and_present_absorbs(a: Tensor) -> None:
    assert torch.equal(joint(a, torch.zeros_like(a)), a)
    assert torch.equal(joint(a, torch.ones_like(a)), torch.ones_like(a))


@given(presences)
def test_presence_survives_as_targets(a: Tensor) -> None:
    assert torch.equal(presence_of(targets_of(a)), a)


@given(beliefs, beliefs, beliefs)
def test_or_of_soft_targets_is_commutative_associative_and_idempotent(
    a: list[float | None], b: list[float | None], c: list[float | None]
) -> None:
    first, second, third = soft(a), soft(b), soft(c)
    assert equal(targets_or(first, second), targets_or(second, first))
    assert equal(targets_or(targets_or(first, second), third), targets_or(first, targets_or(second, third)))
    assert equal(targets_or(first, first), first)


@given(beliefs)
def test_absent_is_neutral_and_present_absorbs_for_soft_targets(a: list[float | None]) -> None:
    assert equal(targets_or(soft(a), soft([0.0] * 4)), soft(a))
    assert equal(targets_or(soft(a), soft([1.0] * 4)), soft([1.0] * 4))


def test_or_of_a_soft_target_and_unknown_is_unknown_but_certain_presence_is_known() -> None:
    joint = targets_or(soft([0.5, 1.0, 0.25, None]), soft([None, None, 0.5, 0.0]))
    assert equal(joint, soft([None, 1.0, 0.5, None]))


def test_convex_targets_are_known_where_both_are_or_where_the_unknown_has_no_weight() -> None:
    first = targets_of(torch.tensor([[1, 0, 1, -1]] * 3, dtype=torch.int8))
    second = targets_of(torch.tensor([[0, 0, -1, 1]] * 3, dtype=torch.int8))
    mixed = targets_convex(first, second, torch.tensor([0.75, 1.0, 0.0]))
    assert mixed.target.tolist() == [[0.75, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    assert mixed.mask.tolist() == [[True, True, False, False], [True, True, True, False], [True, True, False, True]]


@given(beliefs, beliefs, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_a_blend_and_its_mirror_image_are_the_same(a: list[float | None], b: list[float | None], weight: float) -> None:
    blend = targets_convex(soft(a), soft(b), torch.tensor([weight]))
    assert equal(blend, targets_convex(soft(b), soft(a), torch.tensor([1 - weight])))


def test_every_row_of_a_blend_has_its_own_mask() -> None:
    first = targets_of(torch.tensor([[-1, 1], [1, -1]], dtype=torch.int8))
    second = targets_of(torch.tensor([[1, 1], [1, 1]], dtype=torch.int8))
    assert targets_convex(first, second, torch.tensor([0.5, 0.5])).mask.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(("target", "presence"), [(0.3, 1), (0.0, 0)])
def test_presence_of_a_known_soft_target(target: float, presence: int) -> None:
    assert presence_of(soft([target])).tolist() == [[presence]]
