from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tutti.train.features import Standardization
from tutti.train.model import count_parameters
from tutti.train.notes.losses import NotesLoss, RollLogits, class_weights
from tutti.train.notes.rolls import Rolls
from tutti.train.notes.unet import NotesTagger, ResidualBlock, Unet, UnetConfig, any_logit

SMALL = UnetConfig(first_channels=4)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are not faster on two cores, and on busy ones far slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tagger(config: UnetConfig = SMALL, pitched: tuple[bool, ...] = (True, True, False)) -> NotesTagger:
    torch.manual_seed(0)
    network = Unet(config, len(pitched))
    flat = Standardization((0.0,) * 88, (1.0,) * 88)
    return NotesTagger(network, config, torch.tensor(pitched), flat, bf16=False).eval()


def test_a_residual_block_has_three_convolutions_and_two_batch_norms() -> None:
    for up in (False, True):
        kinds = [type(module).__name__ for module in ResidualBlock(4, 8, stride=2, up=up).children()]
        assert sum("Conv" in kind for kind in kinds) == 3
        assert sum("BatchNorm" in kind for kind in kinds) == 2


def test_a_residual_block_bends_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = torch.nn.functional.leaky_relu
    monkeypatch.setattr(torch.nn.functional, "leaky_relu", lambda *args: calls.append(1) or plain(*args))
    ResidualBlock(4, 8, stride=2, up=False)(torch.zeros(1, 4, 8, 8))
    assert len(calls) == 2


def test_encoder_and_decoder_have_four_blocks_of_the_papers_channels() -> None:
    network = Unet(UnetConfig(), 9)
    assert [block.first.out_channels for block in network.down] == [32, 64, 128, 256]
    assert [block.first.out_channels for block in network.up] == [128, 64, 32, 32]
    assert [block.first.in_channels for block in network.up] == [256, 256, 128, 64]  # what came up, and the skip
    assert count_parameters(network) == 2_760_137


@pytest.mark.parametrize("num_frames", [1, 2, 15, 16, 17, 313])
def test_logits_have_the_size_of_the_cqt_whatever_its_length(num_frames: int) -> None:
    logits = tagger()(torch.zeros(2, num_frames, 88))
    assert logits.roll.shape == (2, 3, 88, num_frames)
    assert logits.instrument.shape == (2, 3, num_frames)
    assert logits.pitch.shape == (2, 88, num_frames)


def test_instrument_and_pitch_rolls_are_scaled_sums_of_the_pianoroll() -> None:
    heard = torch.randn(2, 20, 88, generator=torch.Generator().manual_seed(0))
    logits = tagger()(heard)
    assert torch.allclose(logits.instrument, 0.01 * logits.roll.sum(dim=2), atol=1e-5)
    assert torch.allclose(logits.pitch, 0.1 * logits.roll[:, :2].sum(dim=1), atol=1e-5)  # the drums have no pitch


def test_a_noisy_or_is_the_probability_that_any_cell_sounds() -> None:
    heard = torch.randn(1, 20, 88, generator=torch.Generator().manual_seed(0))
    logits = tagger(UnetConfig(first_channels=4, summing="noisy_or"))(heard)
    silent = 1 - logits.roll.double().sigmoid()
    assert torch.allclose(logits.instrument.double().sigmoid(), 1 - silent.prod(dim=2), atol=1e-5)
    assert torch.allclose(logits.pitch.double().sigmoid(), 1 - silent[:, :2].prod(dim=1), atol=1e-5)


@pytest.mark.parametrize("value", [-100.0, -30.0, -1.0, 0.0, 40.0, 100.0])
def test_the_logit_of_any_is_finite_and_has_a_finite_gradient(value: float) -> None:
    logits = torch.full((1, 88), value, requires_grad=True)
    result = any_logit(logits, dim=1)
    result.sum().backward()
    assert torch.isfinite(result).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_logit_of_any_of_one_is_its_own() -> None:
    logits = torch.linspace(-10, 30, 9)[:, None]
    assert torch.allclose(any_logit(logits, dim=1), logits[:, 0], atol=1e-3)


@pytest.mark.parametrize(("prior", "expected"), [(0.01, 0.01), (0.0, 0.5)])
def test_before_training_every_cell_is_about_as_likely_as_the_prior(prior: float, expected: float) -> None:
    network = Unet(UnetConfig(first_channels=4, prior=prior), 2).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        assert network(torch.randn(1, 1, 88, 32)).sigmoid().mean().item() == pytest.approx(
            expected, abs=0.2 if prior == 0 else 1e-6
        )


def test_the_deepest_block_hears_what_is_octaves_and_a_second_away() -> None:
    """A change of one CQT cell reaches cells two octaves up, and half a second before and after."""
    network = tagger(UnetConfig(first_channels=4)).network
    torch.manual_seed(1)
    first = torch.randn(1, 1, 88, 96)
    second = first.clone()
    second[0, 0, 40, 48] += 5
    changed = (network(first) - network(second)).abs()[0].amax(dim=0) > 1e-6
    assert bool(changed[40 + 24].any())
    assert bool(changed[:, 48 - 16].any())
    assert bool(changed[:, 48 + 16].any())
    assert not bool(changed[:, 90:].any())


def test_what_is_heard_is_standardized_bin_by_bin() -> None:
    heard = torch.randn(1, 16, 88, generator=torch.Generator().manual_seed(0))
    plain = tagger()
    torch.manual_seed(0)
    mean, std = torch.linspace(-50, -20, 88), torch.linspace(5, 20, 88)
    statistics = Standardization(tuple(mean.tolist()), tuple(std.tolist()))
    shifted = NotesTagger(Unet(SMALL, 3), SMALL, torch.tensor([True, True, False]), statistics, bf16=False).eval()
    assert torch.allclose(shifted(heard * std + mean).roll, plain(heard).roll, atol=1e-4)


def test_every_weight_takes_part_in_each_single_task() -> None:
    for summing in ("sum", "noisy_or"):
        for task in ("roll", "pitch", "instrument"):
            model = tagger(UnetConfig(first_channels=4, summing=summing)).train()  # type: ignore[arg-type]
            weights = {f"{name}_weight": float(name == task) for name in ("roll", "pitch", "instrument")}
            only(model, NotesLoss(**weights)).backward()
            still = [
                name
                for name, parameter in model.network.named_parameters()
                if parameter.grad is None or not parameter.grad.abs().sum() > 0
            ]
            assert still == [], (summing, task)


def only(model: NotesTagger, loss: NotesLoss) -> torch.Tensor:
    heard = torch.randn(2, 24, 88, generator=torch.Generator().manual_seed(3))
    return loss(model(heard), some_rolls(2, 3, 24), torch.ones(3))


def some_rolls(batch: int, instruments: int, frames: int) -> Rolls:
    generator = torch.Generator().manual_seed(4)
    piano = torch.rand(batch, instruments, 88, frames, generator=generator) < 0.05
    return Rolls(piano, piano.any(dim=2).to(torch.int8), piano.any(dim=1).to(torch.int8))


# --- losses


def uniform_logits(rolls: Rolls, value: float = 0.0) -> RollLogits:
    return RollLogits(*(torch.full(roll.shape, value) for roll in (rolls.piano, rolls.instrument, rolls.pitch)))


def test_the_loss_is_the_sum_of_three_mean_cross_entropies() -> None:
    rolls = some_rolls(2, 3, 10)
    nothing = RollLogits(*(torch.zeros(roll.shape) for roll in (rolls.piano, rolls.instrument, rolls.pitch)))
    assert NotesLoss()(nothing, rolls, torch.ones(3)).item() == pytest.approx(3 * np.log(2), abs=1e-5)
    assert NotesLoss(roll_weight=2.0)(nothing, rolls, torch.ones(3)).item() == pytest.approx(4 * np.log(2), abs=1e-5)


@pytest.mark.parametrize("task", ["roll", "pitch", "instrument"])
def test_a_single_task_is_blind_to_the_other_two(task: str) -> None:
    weights = {f"{name}_weight": float(name == task) for name in ("roll", "pitch", "instrument")}
    loss = NotesLoss(**weights)
    assert loss.terms == (task,)
    rolls = some_rolls(1, 2, 8)
    wrong = {
        name: torch.full(roll.shape, 20.0) * (1 - 2 * (roll > 0).float())
        for name, roll in (("roll", rolls.piano.int()), ("instrument", rolls.instrument), ("pitch", rolls.pitch))
    }
    right = {name: -value for name, value in wrong.items()}
    assert loss(RollLogits(**(wrong | {task: right[task]})), rolls, torch.ones(2)).item() < 1e-3
    assert loss(RollLogits(**(right | {task: wrong[task]})), rolls, torch.ones(2)).item() == pytest.approx(20, abs=1e-2)


def test_a_pitch_that_is_unknown_has_no_gradient() -> None:
    rolls = some_rolls(1, 2, 4)
    rolls.pitch[0, 10, 2] = -1
    logits = uniform_logits(rolls)
    logits.pitch.requires_grad_()
    NotesLoss()(logits, rolls, torch.ones(2)).backward()
    assert logits.pitch.grad is not None
    still = torch.nonzero(logits.pitch.grad == 0).tolist()
    assert still == [[0, 10, 2]]


def test_cells_that_sound_count_by_their_weight() -> None:
    piano = torch.zeros(1, 1, 88, 1, dtype=torch.bool)
    piano[0, 0, 0, 0] = True
    rolls = Rolls(piano, piano.any(dim=2).to(torch.int8), piano.any(dim=1).to(torch.int8))
    loss = NotesLoss(pitch_weight=0, instrument_weight=0, present_weight=10.0)
    assert loss(uniform_logits(rolls), rolls, torch.ones(1)).item() == pytest.approx(
        (87 + 10) / 88 * np.log(2), abs=1e-5
    )


def test_rare_instruments_weigh_more_and_one_of_mean_frequency_one() -> None:
    found = class_weights([100, 200, 300], 0.3)
    # shares 1/6, 1/3, 1/2 and their mean 1/3: (2 x 5/4)^.3, 1, (2/3 x 3/4)^.3
    assert found.tolist() == pytest.approx([2.5**0.3, 1.0, 0.5**0.3], abs=1e-5)
    assert class_weights([100, 200, 300], 0.0).tolist() == [1.0, 1.0, 1.0]
    assert class_weights([5, 0], 0.3).tolist() == [1.0, 1.0]
    assert class_weights([7], 0.3).tolist() == [1.0]


def test_class_weights_scale_pianoroll_and_instruments_but_not_pitches() -> None:
    rolls = some_rolls(1, 2, 8)
    logits = uniform_logits(rolls)
    double = NotesLoss()(logits, rolls, torch.tensor([2.0, 2.0])).item()
    assert double == pytest.approx((2 + 2 + 1) * np.log(2), abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"roll_weight": 0, "pitch_weight": 0, "instrument_weight": 0}, "nothing to learn"),
        ({"roll_weight": -1}, "roll_weight must not be negative"),
        ({"present_weight": 0}, "present_weight must be above 0"),
    ],
)
def test_a_loss_that_cannot_be_meant_is_refused(wrong: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        NotesLoss(**wrong)


@pytest.mark.parametrize("wrong", [{"first_channels": 0}, {"num_blocks": 0}, {"prior": 1.0}])
def test_sizes_that_make_no_network_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        UnetConfig(**wrong)  # type: ignore[arg-type]
