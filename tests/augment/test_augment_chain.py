from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from augmenting import RATE, bank, generator, silent, single_instruments, spectrograms, waveforms

from tutti.augment import presets
from tutti.augment.batch import Batch, batch_of
from tutti.augment.chain import Chain, Effect
from tutti.augment.draw import generator_for
from tutti.augment.transform import Domain, Parameters, Transform
from tutti.augment.transforms.concat_n import ConcatN
from tutti.augment.transforms.frequency_mask import FrequencyMask
from tutti.augment.transforms.gain import Gain
from tutti.augment.transforms.sum_with_n import SumWithN
from tutti.augment.transforms.time_inversion import TimeInversion


@dataclass(frozen=True)
class Digit(Transform):
    """Times ten plus a digit: the result spells out which effects came in which order."""

    digit: int

    domain: ClassVar[Domain] = "any"

    def draw(self, batch: Batch, generator: torch.Generator) -> Parameters:
        return {}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        return batch.with_signal(batch.signal * 10 + self.digit)


def zeros(count: int) -> Batch:
    return batch_of(torch.zeros(count, 1), single_instruments(count), sample_rate=RATE)


def spelled(chain: Chain, count: int) -> list[int]:
    return [int(value) for value in chain(zeros(count), generator()).signal[:, 0].tolist()]


def test_a_fixed_order_is_the_listed_one() -> None:
    assert spelled(Chain((Effect(Digit(1)), Effect(Digit(2)), Effect(Digit(3)))), 3) == [123, 123, 123]


def test_a_random_order_is_each_examples_own_and_every_order_comes_equally_often() -> None:
    found = spelled(Chain((Effect(Digit(1)), Effect(Digit(2)), Effect(Digit(3))), order="random"), 3_000)
    counts = {order: found.count(order) for order in (123, 132, 213, 231, 312, 321)}
    assert sum(counts.values()) == 3_000
    assert all(400 < count < 600 for count in counts.values())


def test_each_effect_is_applied_with_its_probability_independently() -> None:
    found = spelled(Chain((Effect(Digit(1), 0.3), Effect(Digit(2), 0.8), Effect(Digit(3), 0.0))), 4_000)
    shares = {result: found.count(result) / 4_000 for result in (0, 1, 2, 12)}
    assert shares == pytest.approx({0: 0.14, 1: 0.06, 2: 0.56, 12: 0.24}, abs=0.03)


def test_one_of_applies_a_single_effect_each_equally_often() -> None:
    found = spelled(Chain((Effect(Digit(1)), Effect(Digit(2)), Effect(Digit(3), 0.5)), order="one_of"), 3_000)
    shares = {result: found.count(result) / 3_000 for result in (0, 1, 2, 3)}
    assert shares == pytest.approx({0: 1 / 6, 1: 1 / 3, 2: 1 / 3, 3: 1 / 6}, abs=0.03)


def test_chains_nest() -> None:
    inner = Chain((Effect(Digit(2)), Effect(Gain(20, 20))))
    result = Chain((Effect(Digit(1)), Effect(inner, 0.5)))(zeros(200), generator()).signal[:, 0]
    assert set(result.round().tolist()) == {1, 120}


def test_an_effect_leaves_the_examples_it_was_not_drawn_for_untouched_to_the_bit() -> None:
    batch = waveforms(40)
    chain = Chain((Effect(Gain(6, 6), 0.5), Effect(SumWithN(), 0.3)))
    step = chain.draw(batch, generator())["step"]
    result = chain(batch, generator())
    untouched = (step < 0).all(1)
    assert 5 < untouched.sum() < 25
    assert torch.equal(result.signal[untouched], batch.signal[untouched])
    assert torch.equal(result.presence[untouched], batch.presence[untouched])
    summed = step[:, 1] >= 0
    assert (result.presence[summed].sum(1) == 2).all()


def test_the_batch_that_was_passed_stays_as_it_was() -> None:
    batch = waveforms(20)
    before = batch.signal.clone()
    chain = Chain((Effect(TimeInversion(), 0.5), Effect(Digit(1), 0.5), Effect(SumWithN(), 0.5)), order="random")
    chain(batch, generator())
    assert torch.equal(batch.signal, before)
    assert (batch.presence.sum(1) == 1).all()


def test_mixing_takes_partners_as_they_came_in() -> None:
    batch = batch_of(torch.ones(2, 3), torch.eye(2, dtype=torch.int8), sample_rate=RATE)
    result = Chain((Effect(Digit(-20)), Effect(SumWithN())))(batch, generator())
    assert result.signal.tolist() == [[0, 0, 0], [0, 0, 0]]  # (-10 at a peak of 1, and an untouched 1) / 2
    assert result.pool is None


def test_what_changes_the_length_concerns_all_examples_in_a_fixed_order() -> None:
    with pytest.raises(ValueError, match="ConcatN changes the length: its probability must be 1"):
        Effect(ConcatN(), 0.5)
    with pytest.raises(ValueError, match="needs a chain of fixed order"):
        Chain((Effect(ConcatN()),), order="random")
    with pytest.raises(ValueError, match="Chain changes the length: its probability must be 1"):
        Effect(Chain((Effect(ConcatN()),)), 0.5)
    chain = Chain((Effect(ConcatN(num=2)), Effect(Gain(), 0.5)))
    assert chain(waveforms(4), generator()).signal.shape == (4, 16_000)


def test_a_probability_outside_0_and_1_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"Gain: probability 1.5 is not in \[0, 1\]"):
        Effect(Gain(), 1.5)


def test_an_effect_for_another_kind_of_signal_is_refused_inside_a_chain() -> None:
    with pytest.raises(ValueError, match="FrequencyMask: expected a spectrogram"):
        Chain((Effect(FrequencyMask()),))(waveforms(2), generator())


def test_a_generator_is_a_function_of_seed_epoch_and_index() -> None:
    draws = {
        key: torch.randint(2**40, (), generator=generator_for(*key)).item()
        for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    }
    assert len(set(draws.values())) == 4
    assert torch.randint(2**40, (), generator=generator_for(0, 0, 0)).item() == draws[0, 0, 0]
    assert draws[0, 0, 0] == 253_769_103_692  # the same on every machine and for ever


PRESETS = {
    "nsynth_effects": presets.nsynth_effects(),
    "nsynth_pretraining": presets.nsynth_pretraining(),
    "openmic_bilstm": presets.openmic_bilstm(),
    "lumen_best": presets.lumen_best(),
    "lumen_all": presets.lumen_all(bank()),
    "lumen_spectrogram": presets.lumen_spectrogram(),
    "musical": presets.musical_mixtures(musical=True),
    "not_musical": presets.musical_mixtures(musical=False),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_varies_a_batch_alike_for_one_generator_and_keeps_silence_silent(name: str) -> None:
    batch = spectrograms(12) if name in ("openmic_bilstm", "lumen_spectrogram") else waveforms(12)
    first, again = PRESETS[name](batch, generator(3)), PRESETS[name](batch, generator(3))
    assert torch.equal(first.signal, again.signal)
    assert first.signal.shape == batch.signal.shape
    assert first.signal.isfinite().all()
    assert not torch.equal(first.signal, batch.signal)
    assert not torch.equal(first.signal, PRESETS[name](batch, generator(4)).signal)
    if batch.signal.ndim == 2:
        assert not PRESETS[name](silent(batch), generator(3)).signal.any()


def test_lumens_best_hears_two_instruments_in_every_clip() -> None:
    result = presets.lumen_best()(waveforms(20), generator())
    assert (result.presence == 1).sum(1).tolist() == [2] * 20


def test_musical_mixtures_keep_key_and_tempo() -> None:
    names = {type(effect.transform).__name__ for effect in presets.musical_mixtures(musical=True).effects}
    assert names == {"Gain", "HighShelf", "LowShelf", "Peaking"}
    more = {type(effect.transform).__name__ for effect in presets.musical_mixtures(musical=False).effects}
    assert more - names == {"PitchShift", "TimeStretch"}
