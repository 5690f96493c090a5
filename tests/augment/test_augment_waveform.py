import math

import numpy as np
import pytest
import signals
import torch
from augmenting import RATE, bank, generator, noise_rows, silent, single_instruments, waveforms
from scipy.signal import freqz, sosfilt

from tutti.augment import biquad
from tutti.augment.batch import Batch, batch_of
from tutti.augment.levels import rms
from tutti.augment.linear_filter import biquad as as_filter
from tutti.augment.linear_filter import in_series, linear_filter
from tutti.augment.transforms.background_noise import BackgroundNoise, noise_bank
from tutti.augment.transforms.colored_noise import COLORS, ColoredNoise, colored_noise
from tutti.augment.transforms.delay import Delay
from tutti.augment.transforms.gain import Gain
from tutti.augment.transforms.high_pass import HighPass
from tutti.augment.transforms.low_pass import LowPass
from tutti.augment.transforms.polarity_inversion import PolarityInversion
from tutti.augment.transforms.reverb import NUM_ROOMS, Reverb, room_responses
from tutti.augment.transforms.time_inversion import TimeInversion
from tutti.augment.transforms.time_mask import TimeMask
from tutti.augment.transforms.time_shift import TimeShift
from tutti.datasets.errors import UsageError


def of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def ramp(length: int = 10, rows: int = 1) -> Batch:
    """Rows of 1, 2, ... length."""
    signal = torch.arange(1, length + 1, dtype=torch.float32).repeat(rows, 1)
    return batch_of(signal, single_instruments(rows), sample_rate=RATE)


def test_gain_is_exact_in_decibels() -> None:
    batch = waveforms(3)
    louder = Gain().apply(batch, {"gain_db": of(20, -20, 0)}).signal
    assert torch.allclose(louder[0], batch.signal[0] * 10, rtol=1e-6)
    assert torch.allclose(louder[1], batch.signal[1] * 0.1, rtol=1e-6)
    assert torch.equal(louder[2], batch.signal[2])


def test_gains_are_drawn_from_the_whole_range_and_from_it_alone() -> None:
    gain_db = Gain(-3, 5).draw(waveforms(2).rows(torch.zeros(2_000, dtype=torch.int64)), generator())["gain_db"]
    assert -3 <= gain_db.min() < -2.9
    assert 4.9 < gain_db.max() < 5
    assert gain_db.mean() == pytest.approx(1, abs=0.2)


def test_time_inversion_plays_backwards_and_polarity_inversion_turns_upside_down() -> None:
    assert TimeInversion()(ramp(4), generator()).signal.tolist() == [[4, 3, 2, 1]]
    assert PolarityInversion()(ramp(4), generator()).signal.tolist() == [[-1, -2, -3, -4]]


def test_a_rolled_shift_brings_back_at_one_end_what_left_at_the_other() -> None:
    shifted = TimeShift().apply(ramp(10, 3), {"share": of(0.2, -0.3, 0)}).signal
    assert shifted.tolist() == [
        [9, 10, 1, 2, 3, 4, 5, 6, 7, 8],
        [4, 5, 6, 7, 8, 9, 10, 1, 2, 3],
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    ]


def test_a_shift_filled_with_zeros_loses_what_left() -> None:
    shifted = TimeShift(fill="zeros").apply(ramp(10, 3), {"share": of(0.2, -0.3, 1)}).signal
    assert shifted.tolist() == [[0, 0, 1, 2, 3, 4, 5, 6, 7, 8], [4, 5, 6, 7, 8, 9, 10, 0, 0, 0], [0] * 10]


def test_a_time_mask_silences_one_interval_from_the_earliest_to_the_latest_place() -> None:
    parameters = {"share": of(0.3, 0.3, 0, 1), "place": of(0, 0.999, 0.5, 0.5)}
    masked = TimeMask().apply(ramp(10, 4), parameters).signal
    assert masked.tolist() == [
        [0, 0, 0, 4, 5, 6, 7, 8, 9, 10],
        [1, 2, 3, 4, 5, 6, 7, 0, 0, 0],
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        [0] * 10,
    ]


def test_a_delay_adds_one_echo_at_its_time_and_level() -> None:
    click = torch.zeros(2, 1_000)
    click[:, 10] = 1
    batch = batch_of(click, single_instruments(2), sample_rate=1_000)
    echoed = Delay().apply(batch, {"delay_s": of(0.2, 0.4567), "echo_db": of(-20, 0)}).signal
    assert [row.nonzero()[:, 0].tolist() for row in echoed] == [[10, 210], [10, 467]]
    assert echoed[0, 210] == pytest.approx(0.1)
    assert echoed[1, 467] == pytest.approx(1)


FILTERS = {  # made with the coefficients of the Audio EQ Cookbook; expected gains in dB at frequencies in Hz
    "high_pass": (biquad.high_pass(of(1_000), of(math.sqrt(0.5)), RATE), {1_000: -3.01, 100: -40.2, 7_000: 0}),
    "low_pass": (biquad.low_pass(of(1_000), of(math.sqrt(0.5)), RATE), {1_000: -3.01, 100: 0, 7_900: -96.3}),
    "peaking": (biquad.peaking(of(1_000), of(2.0), of(9.0), RATE), {1_000: 9, 20: 0, 7_900: 0}),
    "low_shelf": (biquad.low_shelf(of(1_000), of(0.7), of(-8.0), RATE), {1_000: -4, 20: -8, 7_900: 0}),
    "high_shelf": (biquad.high_shelf(of(1_000), of(0.7), of(8.0), RATE), {1_000: 4, 20: 0, 7_900: 8}),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_has_its_gain_at_low_middle_and_high_frequencies(name: str) -> None:
    coefficients, gains_db = FILTERS[name]
    b0, b1, b2, a1, a2 = coefficients[0].tolist()
    response = freqz([b0, b1, b2], [1, a1, a2], worN=list(gains_db), fs=RATE)[1]
    for found, (frequency_hz, expected) in zip(20 * np.log10(np.abs(response)), gains_db.items(), strict=True):
        assert found == pytest.approx(expected, abs=0.2), frequency_hz


@pytest.mark.parametrize("name", FILTERS)
def test_a_filtered_impulse_is_scipys_response(name: str) -> None:
    b0, b1, b2, a1, a2 = FILTERS[name][0][0].tolist()
    impulse = torch.zeros(2, 4_001)  # no multiple of a block
    impulse[:, 0] = 1
    filtered = biquad.filtered(impulse, FILTERS[name][0].expand(2, 5))
    expected = freqz([b0, b1, b2], [1, a1, a2], worN=512, fs=RATE)[1]
    found = freqz(filtered[1].double().numpy(), 1, worN=512, fs=RATE)[1]
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize(("frequency_hz", "q"), [(20.0, 0.7), (50.0, 10.0), (7_800.0, 5.0)])
def test_each_row_goes_through_its_own_filter_as_in_scipys_sosfilt(frequency_hz: float, q: float) -> None:
    noise = noise_rows(3, 1.0)
    gains_db = of(-12, 0.5, 12)
    coefficients = biquad.peaking(of(frequency_hz).expand(3), of(q).expand(3), gains_db, RATE)
    filtered = biquad.filtered(noise, coefficients).numpy()
    for row, values, result in zip(noise, coefficients.tolist(), filtered, strict=True):
        sections = [[*values[:3], 1.0, *values[3:]]]
        assert np.abs(result - sosfilt(sections, row.double().numpy())).max() < 1e-5


def test_filters_in_series_are_one_after_the_other() -> None:
    noise = noise_rows(2, 0.3)
    first = as_filter(biquad.high_shelf(of(1_500), of(0.7), of(4), RATE))
    second = as_filter(biquad.high_pass(of(38), of(0.5), RATE))
    stepwise = linear_filter(linear_filter(noise, first), second)  # one filter serves both rows
    assert torch.allclose(linear_filter(noise, in_series(first, second)), stepwise, atol=1e-6)


@pytest.mark.parametrize("num_samples", [1, 31, 32, 33, 640, 641])
def test_a_filter_takes_any_length(num_samples: int) -> None:
    noise = noise_rows(1, 0.1)[:, :num_samples]
    coefficients = biquad.low_pass(of(500), of(0.7), RATE)
    expected = biquad.filtered(noise_rows(1, 0.1), coefficients)[:, :num_samples]
    assert torch.allclose(biquad.filtered(noise, coefficients), expected, atol=1e-7)


def test_the_passes_take_lows_and_highs_away() -> None:
    tones = [signals.sine(1.0, frequency_hz=hz, sample_rate=RATE)[0] for hz in (50, 1_500, 7_000)]
    batch = batch_of(torch.from_numpy(np.stack(tones)), single_instruments(3), sample_rate=RATE)
    for transform, lost, kept in ((HighPass(), 0, 2), (LowPass(), 2, 0)):
        change_db = 20 * torch.log10(rms(transform(batch, generator()).signal) / rms(batch.signal))[:, 0]
        assert change_db[lost] < -9
        assert change_db[kept] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("color", "db_per_octave"), [
    ("brown", -6.02), ("pink", -3.01), ("white", 0.0), ("blue", 3.01), ("violet", 6.02),
])  # fmt: skip
def test_colored_noise_falls_or_rises_by_its_decibels_per_octave(color: str, db_per_octave: float) -> None:
    exponents = of(*[COLORS[color]] * 16)
    noise = colored_noise(exponents, torch.arange(16) * 50_000, 4 * RATE, RATE, torch.device("cpu"))
    power = torch.fft.rfft(noise.double()).abs().square().mean(0)  # 0.25 Hz apart
    octaves = [power[4 * low : 8 * low].mean().log10().item() * 10 for low in (62, 125, 250, 500, 1_000, 2_000)]
    slope = np.polyfit(range(6), octaves, 1)[0]
    assert slope == pytest.approx(db_per_octave, abs=0.15)
    assert power[:79].sum() < 1e-9 * power.sum()  # nothing below 20 Hz


def test_white_noise_is_gaussian_and_differs_from_row_to_row() -> None:
    noise = colored_noise(of(0, 0), torch.tensor([0, 1]), 4 * RATE, RATE, torch.device("cpu"))
    noise /= noise.std(1, keepdim=True)
    assert noise.pow(4).mean(1).tolist() == pytest.approx([3, 3], abs=0.15)  # a Gaussian's kurtosis
    assert abs((noise[0] * noise[1]).mean()) < 0.02  # neighbors in the table


@pytest.mark.parametrize("transform", [ColoredNoise(), BackgroundNoise(bank())], ids=["colored", "background"])
def test_added_noise_lies_the_drawn_decibels_below_the_signal(transform: ColoredNoise | BackgroundNoise) -> None:
    batch = waveforms(8)
    parameters = transform.draw(batch, generator())
    noise = transform.apply(batch, parameters).signal - batch.signal
    snr_db = 20 * torch.log10(rms(batch.signal) / rms(noise))[:, 0]
    assert torch.allclose(snr_db.double(), parameters["snr_db"], atol=0.01)
    assert (parameters["snr_db"] >= 3).all()


def test_background_noise_is_a_piece_of_one_noise_of_the_bank() -> None:
    long, short = torch.full((40,), 1.0), torch.tensor([2.0, 3.0])
    noises = noise_bank([long, short], num_samples=8)
    assert noises.samples[40:].tolist() == [2, 3, 2, 3, 2, 3, 2, 3]  # repeated up to the length of a clip
    batch = ramp(8, 50)
    transform = BackgroundNoise(noises)
    parameters = transform.draw(batch, generator())
    added = transform.apply(batch, parameters).signal - batch.signal
    constant = (added - added[:, :1]).abs().amax(1) < 1e-4
    assert 10 < constant.sum() < 40  # both noises are drawn
    assert set(parameters["first"][~constant].tolist()) == {40}
    assert len(set(parameters["first"][constant].tolist())) > 8


def test_a_bank_without_noises_or_with_too_short_clips_is_refused() -> None:
    with pytest.raises(UsageError, match="expected at least one noise"):
        noise_bank([], 100)
    with pytest.raises(UsageError, match="the bank serves 100 samples, the clips have 8000"):
        BackgroundNoise(bank(100))(waveforms(2), generator())


def test_a_room_decays_by_60_db_in_its_time() -> None:
    responses = room_responses(0.1, 1.0, RATE)
    assert responses.shape == (NUM_ROOMS, RATE)
    assert np.linalg.norm(responses, axis=1) == pytest.approx(np.ones(NUM_ROOMS))
    slope_db_per_s = [np.polyfit(np.arange(10), levels_db(row[:8_000]), 1)[0] / 0.05 for row in responses[[40, 63]]]
    assert slope_db_per_s == pytest.approx([-60 / 0.1 / 10 ** (40 / 63), -60.0], rel=0.1)


def levels_db(samples: np.ndarray) -> np.ndarray:
    """Level of ten stretches of equal length."""
    return 10 * np.log10(np.square(samples.reshape(10, -1)).mean(1))


def test_reverberation_follows_the_click_and_never_comes_before_it_or_from_behind_the_end() -> None:
    click = torch.zeros(2, RATE)
    click[0, 4_000] = click[1, -10] = 1
    batch = batch_of(click, single_instruments(2), sample_rate=RATE)
    wet = Reverb().apply(batch, {"room": torch.tensor([63, 63]), "wet_db": of(0, 0)}).signal
    assert wet[0, :4_000].abs().max() < 1e-6
    assert wet[0, 4_001:].abs().max() > 1e-3
    assert wet[1, :-10].abs().max() < 1e-5  # a circular convolution would begin with the tail


def test_reverberation_has_the_drawn_level_against_the_dry_signal() -> None:
    batch = waveforms(4)
    parameters = {"room": torch.tensor([0, 20, 40, 63]), "wet_db": of(0, -6, -12, -18)}
    wet = Reverb().apply(batch, parameters).signal - batch.signal
    assert (20 * torch.log10(rms(wet) / rms(batch.signal)))[:, 0].tolist() == pytest.approx([0, -6, -12, -18], abs=1e-3)


def test_silence_gets_no_noise_and_no_room() -> None:
    for transform in (ColoredNoise(), BackgroundNoise(bank()), Reverb()):
        assert not transform(silent(waveforms(3)), generator()).signal.any()
