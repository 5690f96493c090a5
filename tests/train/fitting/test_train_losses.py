import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tutti.datasets.errors import UsageError
from tutti.datasets.taxonomy import IRMAS_INSTRUMENTS
from tutti.train.fitting.losses import (
    LUMEN_FAMILIES,
    NSYNTH_CROSS_ENTROPY,
    OPENMIC_FOCAL,
    Loss,
    families_of,
    masked_bce,
    positive_weights,
    to_families,
)

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


TARGET = torch.tensor([[1.0, 0.3, 0.0], [0.0, 1.0, 0.6]])
KNOWN = torch.tensor([[True, True, False], [False, True, True]])
WEIGHTS = torch.tensor([2.0, 1.0, 0.5])


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_presence_and_float_targets_with_a_mask_are_the_same_loss() -> None:
    mask = PRESENCE != -1
    for loss in (Loss(), Loss(kind="focal", gamma=2.0, alpha=0.75), Loss(label_smoothing=0.1, unknown_weight=0.3)):
        function = loss.build(WEIGHTS)
        assert torch.equal(function(LOGITS, PRESENCE), function(LOGITS, (PRESENCE == 1).float(), mask))


def test_presence_with_a_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="int8 presence says itself what is unknown"):
        Loss().build()(LOGITS, PRESENCE, KNOWN)


def test_a_soft_target_is_the_mix_of_both_answers() -> None:
    one = torch.zeros(1, 1)
    for loss in (Loss(), Loss(kind="focal", gamma=1.5, alpha=0.6)):
        function = loss.build()
        logits = torch.tensor([[0.7]])
        mixed = 0.3 * function(logits, one + 1) + 0.7 * function(logits, one)
        assert function(logits, one + 0.3).item() == pytest.approx(mixed.item())


def test_bce_of_everything_known_is_torchs() -> None:
    expected = functional.binary_cross_entropy_with_logits(LOGITS, TARGET, pos_weight=WEIGHTS)
    assert Loss().build(WEIGHTS)(LOGITS, TARGET).item() == pytest.approx(expected.item())


def test_label_smoothing_moves_targets_toward_one_half() -> None:
    expected = functional.binary_cross_entropy_with_logits(LOGITS, TARGET * 0.8 + 0.1)
    assert Loss(label_smoothing=0.2).build()(LOGITS, TARGET).item() == pytest.approx(expected.item())


def test_focal_loss_fades_by_the_probability_of_the_right_answer() -> None:
    logits, presence = torch.tensor([[1.0, 1.0]]), torch.tensor([[1, 0]], dtype=torch.int8)
    p = sigmoid(1.0)
    expected = (0.75 * (1 - p) ** 2 * -math.log(p) + 0.25 * p**2 * -math.log(1 - p)) / 2
    assert OPENMIC_FOCAL.build()(logits, presence).item() == pytest.approx(expected)


def test_the_papers_code_fades_absent_labels_by_the_wrong_probability() -> None:
    logits, presence = torch.tensor([[1.0, 1.0]]), torch.tensor([[1, 0]], dtype=torch.int8)
    p = sigmoid(1.0)
    expected = (2 * (1 - p) ** 0.5 * -math.log(p) + (1 - p) ** 0.5 * -math.log(1 - p)) / 2
    loss = Loss(kind="focal", gamma=0.5, focal_negatives="lumen_code").build(torch.tensor([2.0, 2.0]))
    assert loss(logits, presence).item() == pytest.approx(expected)


def test_a_surer_false_alarm_costs_more_and_in_the_papers_code_hardly() -> None:
    absent = torch.tensor([[0]], dtype=torch.int8)
    right, wrong = (Loss(kind="focal", gamma=2.0, focal_negatives=mode).build() for mode in ("correct", "lumen_code"))
    assert right(torch.tensor([[6.0]]), absent) > 5 * right(torch.tensor([[1.0]]), absent)
    assert wrong(torch.tensor([[6.0]]), absent) < wrong(torch.tensor([[1.0]]), absent)


def test_focal_loss_with_gamma_zero_is_bce() -> None:
    focal, bce_loss = Loss(kind="focal", gamma=0.0).build(WEIGHTS), Loss().build(WEIGHTS)
    assert focal(LOGITS, TARGET, KNOWN).item() == pytest.approx(bce_loss(LOGITS, TARGET, KNOWN).item())


@pytest.mark.parametrize(
    "loss", [Loss(), Loss(kind="focal", gamma=0.3), Loss(kind="focal", focal_negatives="lumen_code")]
)
def test_gradients_are_finite_for_extreme_logits(loss: Loss) -> None:
    logits = torch.tensor([[200.0, -200.0], [200.0, -200.0]]).requires_grad_()
    value = loss.build()(logits, torch.tensor([[1, 1], [0, 0]], dtype=torch.int8))
    value.backward()
    assert math.isfinite(value.item())
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    "loss",
    [
        Loss(kind="focal", alpha=0.75),
        Loss(label_smoothing=0.1),
        Loss(family_weight=0.8),
        Loss(kind="focal", family_weight=1.5),
    ],
)
@given(st.lists(st.floats(-30, 30), min_size=6, max_size=6))
@settings(max_examples=20)
def test_no_loss_depends_on_unknown_targets(loss: Loss, values: list[float]) -> None:
    function = loss.build(families=((0, 1), (2,)) if loss.family_weight else None)
    other = torch.where(KNOWN, TARGET, torch.tensor(values).reshape(2, 3))
    strange = torch.where(KNOWN, TARGET, torch.tensor(float("nan")))
    results = []
    for target in (TARGET, other, strange):
        leaf = LOGITS.clone().requires_grad_()
        value = function(leaf, target, KNOWN)
        value.backward()
        assert leaf.grad is not None
        results.append((value.item(), leaf.grad.tolist()))
    assert results[1] == results[0]
    assert results[2] == results[0]


@pytest.mark.parametrize("loss", [Loss(kind="focal"), Loss(family_weight=1.0), Loss(kind="cross_entropy")])
def test_every_loss_of_a_batch_without_known_labels_is_zero_with_a_gradient_of_zero(loss: Loss) -> None:
    logits = LOGITS.clone().requires_grad_()
    function = loss.build(families=((0, 1), (2,)) if loss.family_weight else None)
    value = function(logits, torch.full((2, 3), -1, dtype=torch.int8))
    value.backward()
    assert value.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(2, 3))


def test_the_family_loss_compares_the_greatest_logit_with_whether_anyone_plays() -> None:
    logits = torch.tensor([[0.5, 2.0, -1.0]])
    presence = torch.tensor([[1, 0, 0]], dtype=torch.int8)
    plain = (bce(0.5, True) + bce(2.0, False) + bce(-1.0, False)) / 3
    family = (bce(2.0, True) + bce(-1.0, False)) / 2
    loss = Loss(family_weight=0.3).build(families=((0, 1), (2,)))
    assert loss(logits, presence).item() == pytest.approx(plain + 0.3 * family)


def test_a_family_is_present_with_one_member_absent_with_none_and_otherwise_unknown() -> None:
    presence = torch.tensor([[1, -1], [0, 0], [0, -1], [-1, -1], [1, 0]])
    known = presence != -1
    _, target, family_known = to_families(torch.zeros(5, 2), (presence == 1).float(), known, ((0, 1),))
    assert family_known[:, 0].tolist() == [True, True, False, False, True]
    assert target[family_known].tolist() == [1.0, 0.0, 1.0]


def test_a_half_present_member_leaves_a_family_with_unknown_ones_unknown() -> None:
    _, _, known = to_families(torch.zeros(1, 2), torch.tensor([[0.7, 0.0]]), torch.tensor([[True, False]]), ((0, 1),))
    assert known.tolist() == [[False]]


def test_families_are_the_taxonomys_or_the_papers() -> None:
    names = ("cello", "organ", "piano", "trumpet", "violin")
    assert families_of(names) == ((0, 4), (3,), (1, 2))  # bowed_string, brass, keyboard
    assert families_of(names, LUMEN_FAMILIES) == ((1, 3), (2,), (0, 4))  # brass, percussion, strings
    assert len(families_of(IRMAS_INSTRUMENTS, LUMEN_FAMILIES)) == 6
    with pytest.raises(UsageError, match=r"instrument 'cellos' has no family .*'cello'"):
        families_of(["cellos"])


def test_cross_entropy_with_smoothing_is_torchs_over_the_known_examples() -> None:
    labels = torch.tensor([2, -1, 0])
    logits = torch.tensor([[0.1, 1.0, -1.0], [9.0, 9.0, 0.0], [0.5, 0.0, 0.2]])
    expected = functional.cross_entropy(logits[[0, 2]], labels[[0, 2]], label_smoothing=0.05)
    loss = NSYNTH_CROSS_ENTROPY.build()
    assert loss(logits, labels).item() == pytest.approx(expected.item())
    one_hot = functional.one_hot(labels.clamp(min=0), 3).to(torch.int8)
    one_hot[1, 1] = -1
    assert loss(logits, one_hot).item() == pytest.approx(expected.item())


def test_cross_entropy_takes_mixed_labels() -> None:
    mixed = torch.tensor([[0.7, 0.3, 0.0]])
    logits = torch.tensor([[0.1, 1.0, -1.0]])
    by_class = [Loss(kind="cross_entropy").build()(logits, torch.tensor([label])).item() for label in (0, 1)]
    found = Loss(kind="cross_entropy").build()(logits, mixed).item()
    assert found == pytest.approx(0.7 * by_class[0] + 0.3 * by_class[1])


def test_half_precision_logits_are_judged_in_float32() -> None:
    assert Loss().build()(LOGITS.bfloat16(), PRESENCE).dtype == torch.float32


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(UsageError, match="family_weight needs the classes' families"):
        Loss(family_weight=0.3).build()
    with pytest.raises(UsageError, match="cross_entropy has one present class"):
        Loss(kind="cross_entropy").build(WEIGHTS)
    with pytest.raises(ValueError, match="alpha must lie between 0 and 1"):
        Loss(alpha=1.0)


def test_the_papers_example_of_a_positive_weight() -> None:
    # 200 guitar, 50 guitar and piano, 100 piano, 300 violin
    songs = [[1, 0, 0]] * 200 + [[1, 1, 0]] * 50 + [[0, 1, 0]] * 100 + [[0, 0, 1]] * 300
    assert positive_weights(torch.tensor(songs, dtype=torch.int8), math.inf)[0].item() == pytest.approx(1.6)
