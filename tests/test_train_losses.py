import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.losses import masked_bce, positive_weights

LOGITS = torch.tensor([[0.0, 2.0, -1.0], [3.0, 0.5, 0.0]])
PRESENCE = torch.tensor([[1, -1, 0], [-1, -1, 1]], dtype=torch.int8)


def bce(logit: float, present: bool) -> float:
    return math.log1p(math.exp(-logit if present else logit))


def test_the_loss_is_the_mean_cross_entropy_of_the_known_labels() -> None:
    expected = (bce(0.0, True) + bce(-1.0, False) + bce(0.0, True)) / 3
    assert float(masked_bce(LOGITS, PRESENCE)) == pytest.approx(expected)


@given(st.lists(st.floats(-30, 30), min_size=6, max_size=6))
def test_unknown_labels_change_neither_loss_nor_gradient(values: list[float]) -> None:
    unknown = PRESENCE == -1
    other = torch.where(unknown, torch.tensor(values).reshape(2, 3), LOGITS)
    results = []
    for logits in (LOGITS, other):
        leaf = logits.clone().requires_grad_()
        loss = masked_bce(leaf, PRESENCE, torch.tensor([2.0, 3.0, 4.0]))
        loss.backward()
        assert leaf.grad is not None
        assert torch.equal(leaf.grad[unknown], torch.zeros(3))
        results.append((loss.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_batch_without_known_labels_has_loss_and_gradient_zero() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = masked_bce(logits, torch.full((2, 3), -1, dtype=torch.int8), torch.tensor([2.0, 1.0, 0.5]))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(2, 3))


def test_positive_weights_weigh_present_labels_alone() -> None:
    expected = (2 * bce(0.0, True) + bce(-1.0, False) + 5 * bce(0.0, True)) / 3
    assert float(masked_bce(LOGITS, PRESENCE, torch.tensor([2.0, 9.0, 5.0]))) == pytest.approx(expected)


def test_on_request_unknown_counts_as_absent_with_its_weight() -> None:
    presence = torch.tensor([[1, -1]], dtype=torch.int8)
    logits = torch.tensor([[0.0, 2.0]])
    expected = (bce(0.0, True) + 0.25 * bce(2.0, False)) / 1.25
    assert float(masked_bce(logits, presence, unknown_weight=0.25)) == pytest.approx(expected)


def test_positive_weights_are_known_absent_over_known_present() -> None:
    presence = torch.tensor([[1, 1, -1, 1, 0], [0, 1, -1, -1, 0], [0, 0, -1, 1, 0], [-1] * 5], dtype=torch.int8)
    # two absent : one present; one : two; nothing known; never absent; never present
    assert positive_weights(presence, max_weight=10).tolist() == [2.0, 0.5, 1.0, 1.0, 1.0]


def test_positive_weights_are_capped_both_ways() -> None:
    presence = torch.tensor([[1, 0], *[[0, 1]] * 99], dtype=torch.int8)
    assert positive_weights(presence, max_weight=4).tolist() == [4.0, 0.25]
