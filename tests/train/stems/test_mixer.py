"""Mixtures as sound: what is added up, what effects do, and that nothing depends on batches, threads or tiers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tutti.datasets.record import ABSENT, PRESENT
from tutti.train.fitting.loop import examples
from tutti.train.recipe import load_recipe
from tutti.train.stems.audio import ResidentStems
from tutti.train.stems.clips import Mixtures, fixed_clips, musical_only
from tutti.train.stems.config import MixingConfig
from tutti.train.stems.mixer import Level, Mixer
from tutti.train.stems.plan import Sampler
from tutti.train.stems.songs import make_stems

RATE, CHUNK, SIZE = 16_000, 8_000, 40_000
CPU = torch.device("cpu")
OFF = dict.fromkeys(("p_gain", "p_high_shelf", "p_low_shelf", "p_peaking", "p_pitch_shift", "p_time_stretch"), 0.0)

pytestmark = pytest.mark.usefixtures("one_thread")


def pcm(num_stems: int = 6) -> Tensor:
    """Noise of each stem, as loud as the stem's number."""
    generator = np.random.default_rng(0)
    return torch.from_numpy(
        np.stack([generator.normal(0, 300 * (stem + 1), SIZE) for stem in range(num_stems)]).astype(np.int16)
    )


def mixer(*, with_effects: bool = True, gain_db: tuple[float, ...] = (0.0,) * 6, **changes: Any) -> Mixer:
    """Mix stems 0, 1, 2 of one song and 3, 4, 5 of another, each with a class of its own."""
    num_stems = len(gain_db)
    presence = np.full((num_stems, num_stems), ABSENT, np.int8)
    np.fill_diagonal(presence, PRESENT)
    songs = [("corpus", str(stem // 3)) for stem in range(num_stems)]
    sizes = np.full(num_stems, SIZE)
    stems = make_stems(np.arange(num_stems), sizes, presence, songs, [[(0, SIZE)]] * num_stems)
    sampler = Sampler(stems, replace(MixingConfig(max_sources=3), **changes), CHUNK, RATE, seed=5)
    audio = ResidentStems(pcm(num_stems).flatten(), torch.arange(num_stems + 1) * SIZE)
    return Mixer(audio, sampler, torch.tensor(gain_db), Level(RATE, -12.0, 30.0), CPU, with_effects=with_effects)


NUMBERS = [(2, index) for index in range(24)]


def test_a_mixture_is_the_sum_of_its_chunks_times_one_gain() -> None:
    made = mixer(**OFF)
    window_BT, presence_BC = made.batch(NUMBERS)
    assert window_BT.shape == (24, CHUNK)
    whole = pcm().float() / 32768
    for row, number in enumerate(NUMBERS):
        mix = made.sampler.draw(*number)
        parts = [whole[stem, first : first + CHUNK] for stem, first in zip(mix.stems, mix.first, strict=True)]
        expected = torch.stack(parts).sum(0)
        ratio = window_BT[row].norm() / expected.norm()
        assert torch.allclose(window_BT[row], expected * ratio, atol=1e-6)
        assert presence_BC[row].tolist() == [PRESENT if stem in mix.stems else ABSENT for stem in range(6)]


def test_no_mixture_passes_its_peak() -> None:
    for most in (1.0, 0.5):
        window_BT, _ = mixer(max_peak=most).batch(NUMBERS)
        assert float(window_BT.abs().amax()) <= most
        assert float(window_BT.abs().amax()) > most - 1e-3  # noise at -12 LUFS would


def test_stems_are_scaled_each_by_its_own_gain_before_they_are_added() -> None:
    made = mixer(**OFF, p_single=0.0, gain_db=(-20.0, 0.0, 20.0, -20.0, 0.0, 20.0))
    window_BT, _ = made.batch(NUMBERS)
    whole = pcm().float() / 32768 * torch.tensor([0.1, 1.0, 10.0, 0.1, 1.0, 10.0])[:, None]
    for row, number in enumerate(NUMBERS):
        mix = made.sampler.draw(*number)
        parts = [whole[stem, first : first + CHUNK] for stem, first in zip(mix.stems, mix.first, strict=True)]
        expected = torch.stack(parts).sum(0)
        assert torch.allclose(window_BT[row] / window_BT[row].norm(), expected / expected.norm(), atol=1e-6)


def test_a_mixture_is_the_same_in_any_batch() -> None:
    made = mixer()
    together = made.batch(NUMBERS)
    apart = [made.batch([number]) for number in reversed(NUMBERS)][::-1]
    assert torch.equal(together[0], torch.cat([window for window, _ in apart]))
    assert torch.equal(together[1], torch.cat([presence for _, presence in apart]))


def test_key_and_tempo_stay_in_musical_mixtures() -> None:
    moving = OFF | {"p_pitch_shift": 1.0, "p_time_stretch": 1.0}
    assert torch.equal(*(mixer(p_musical=1.0, **share).batch(NUMBERS)[0] for share in (OFF, moving)))
    plain, moved = (mixer(p_musical=0.0, **share) for share in (OFF, moving))
    assert not torch.allclose(plain.batch(NUMBERS)[0], moved.batch(NUMBERS)[0], atol=1e-2)


def test_each_effect_has_a_share_of_its_own_and_the_order_is_random() -> None:
    made = mixer(p_musical=0.0, **(OFF | {"p_gain": 1.0, "p_peaking": 0.25, "p_low_shelf": 1.0}))
    steps = []
    for index in range(400):
        number = (0, index)
        assert made._effects is not None
        steps.append(made._parameters(made._effects, made.sampler.draw(*number), number)["step"])
    step_KE = torch.cat(steps)
    shares = (step_KE >= 0).double().mean(0)
    assert shares.tolist() == pytest.approx([1, 0, 1, 0.25, 0, 0], abs=0.05)
    assert float((step_KE[:, 0] < step_KE[:, 2]).double().mean()) == pytest.approx(0.5, abs=0.06)


# --- as training reads them


def test_an_epoch_goes_on_at_any_step_with_any_number_of_threads_and_batches() -> None:
    recipe = load_recipe("logmel_cnn", ["batch_size=5"])
    whole = Mixtures(mixer(), 13)
    assert len(whole) == 13
    draws = examples(whole, np.arange(13), recipe, epoch=3)  # type: ignore[arg-type]
    steps = list(whole.batches(draws, CHUNK))
    assert [len(window) for _, window in steps] == [5, 4, 4]
    expected = whole.mixer.batch([(3, index) for index in range(13)])
    assert torch.equal(torch.cat([window for _, window in steps]), expected[0])
    assert torch.equal(torch.cat([presence for presence, _ in steps]), expected[1])
    for threads in (1, 3):
        rest = list(replace(whole, num_threads=threads).batches(draws, CHUNK, start_step=1))
        assert torch.equal(torch.cat([window for _, window in rest]), expected[0][5:])


def test_a_fixed_set_is_of_musical_mixtures_without_effects() -> None:
    made = mixer(with_effects=False)
    config = musical_only(made.sampler.config, 9)
    made.sampler = Sampler(made.sampler.stems, config, CHUNK, RATE, seed=0)
    fixed = fixed_clips(Mixtures(made, 9), "samples", None, 0.0)
    windows = fixed.windows(torch.arange(9), torch.zeros(9, dtype=torch.int64), CHUNK)
    expected, presence = made.batch([(0, index) for index in range(9)])
    assert torch.allclose(windows, expected, atol=1 / 32768)
    assert torch.equal(fixed.presence, presence)
    assert all(made.sampler.draw(0, index).musical for index in range(9))
    assert set(fixed.groups) == {"corpus/0", "corpus/1"}
