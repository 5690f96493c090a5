import math

import numpy as np
import pytest
import torch
from augmenting import RATE, generator, noise_rows, single_instruments

from tutti.augment.batch import Batch, batch_of
from tutti.augment.levels import rms
from tutti.augment.transforms.pitch_shift import PitchShift
from tutti.augment.transforms.time_stretch import TimeStretch
from tutti.augment.vocoder import frame_length, resampled

MIDDLE = slice(2_000, -2_000)  # samples of a clip away from both ends


def tones(frequency_hz: float, count: int, duration_s: float = 2.0) -> Batch:
    """Equal sines of amplitude 0.5."""
    time_s = torch.arange(round(duration_s * RATE), dtype=torch.float64) / RATE
    tone = (0.5 * torch.sin(2 * math.pi * frequency_hz * time_s)).float()
    return batch_of(tone.repeat(count, 1), single_instruments(count), sample_rate=RATE)


def frequency_of(waveform: torch.Tensor) -> float:
    """Frequency of the strongest sinusoid, to 0.03 Hz."""
    samples = waveform[MIDDLE].double().numpy()
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 19)).argmax() * RATE / (1 << 19))


def level_db(waveform: torch.Tensor) -> float:
    """Of the middle, against a sine of amplitude 0.5."""
    return 20 * math.log10(rms(waveform[MIDDLE][None]).item() / (0.5 / math.sqrt(2)))


def pulses(rate_hz: float, duration_s: float = 3.0) -> Batch:
    """One noise that swells and fades at a rate."""
    noise = noise_rows(1, duration_s)
    swell = 1 + torch.sin(torch.arange(noise.shape[1]) / RATE * 2 * math.pi * rate_hz)
    return batch_of(noise * swell, single_instruments(1), sample_rate=RATE)


def pulse_rate_of(waveform: torch.Tensor) -> float:
    """How often per second the power of the signal swells."""
    power = waveform.square().double().numpy()
    spectrum = np.abs(np.fft.rfft((power - power.mean()) * np.hanning(len(power)), 1 << 19))
    return float(spectrum[: 10 * (1 << 19) // RATE].argmax() * RATE / (1 << 19))


@pytest.mark.parametrize("frequency_hz", [110.0, 440.0, 2_000.0, 5_000.0])
def test_a_sine_moves_by_the_asked_semitones_and_keeps_its_level(frequency_hz: float) -> None:
    semitones = [-2.0, -0.5, 0.0, 0.25, 2.0]
    shifted = PitchShift().apply(tones(frequency_hz, 5), {"semitones": torch.tensor(semitones, dtype=torch.float64)})
    for asked, waveform in zip(semitones, shifted.signal, strict=True):
        assert 12 * math.log2(frequency_of(waveform) / frequency_hz) == pytest.approx(asked, abs=0.02)
        assert level_db(waveform) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("frequency_hz", [110.0, 440.0, 2_000.0, 7_000.0])
def test_a_stretched_sine_keeps_pitch_and_level(frequency_hz: float) -> None:
    # The clip holds whole periods, so that it goes on smoothly where it starts over.
    rates = torch.tensor([0.8, 0.93, 1.0, 1.1, 1.25], dtype=torch.float64)
    for waveform in TimeStretch().apply(tones(frequency_hz, 5), {"rate": rates}).signal:
        assert frequency_of(waveform) == pytest.approx(frequency_hz, abs=0.1)
        assert level_db(waveform) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.25])
def test_stretching_changes_the_tempo_by_the_rate(rate: float) -> None:
    stretched = TimeStretch().apply(pulses(4.0), {"rate": torch.tensor([rate], dtype=torch.float64)})
    assert pulse_rate_of(stretched.signal[0]) == pytest.approx(4 * rate, rel=0.02)


@pytest.mark.parametrize("semitones", [-2.0, 2.0])
def test_pitch_shift_keeps_the_tempo(semitones: float) -> None:
    shifted = PitchShift().apply(pulses(4.0), {"semitones": torch.tensor([semitones], dtype=torch.float64)})
    assert pulse_rate_of(shifted.signal[0]) == pytest.approx(4, rel=0.02)


def test_rate_1_and_0_semitones_change_nothing_but_the_first_frame() -> None:
    batch = batch_of(noise_rows(2, 1.0), single_instruments(2), sample_rate=RATE)
    same = torch.ones(2, dtype=torch.float64)
    frame = frame_length(RATE)
    assert frame == 1_024
    stretched = TimeStretch().apply(batch, {"rate": same}).signal
    assert torch.allclose(stretched[:, frame:], batch.signal[:, frame:], atol=1e-3)
    shifted = PitchShift().apply(batch, {"semitones": 0 * same}).signal
    assert torch.allclose(shifted[:, frame:], batch.signal[:, frame:], atol=1e-3)


def test_a_clip_that_becomes_too_short_starts_over() -> None:
    signal = torch.zeros(1, 2 * RATE)
    signal[:, :RATE] = tones(440.0, 1, 1.0).signal  # a second of tone, a second of silence
    stretched = (
        TimeStretch()
        .apply(
            batch_of(signal, single_instruments(1), sample_rate=RATE),
            {"rate": torch.tensor([1.25], dtype=torch.float64)},
        )
        .signal[0]
    )
    loud = [rms(part[None]).item() > 0.2 for part in (stretched[:12_000], stretched[14_500:24_500], stretched[27_000:])]
    assert loud == [True, False, True]  # 0.8 s of tone, 0.8 s of silence, the tone again


def test_pitch_shift_upwards_leaves_no_alias() -> None:
    shifted = PitchShift().apply(tones(7_500.0, 1), {"semitones": torch.tensor([2.0], dtype=torch.float64)}).signal
    assert level_db(shifted[0]) < -60  # 8,418 Hz is above half the sample rate


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.3])
@pytest.mark.parametrize(("frequency_hz", "error_db"), [(500.0, -100.0), (3_000.0, -70.0), (6_000.0, -43.0)])
def test_resampling_reads_between_the_samples(ratio: float, frequency_hz: float, error_db: float) -> None:
    batch = tones(frequency_hz, 1)
    read = resampled(batch.signal, torch.tensor([ratio], dtype=torch.float64), 20_000)[0].double()
    position_s = torch.arange(20_000, dtype=torch.float64) * ratio / RATE
    expected = 0.5 * torch.sin(2 * math.pi * frequency_hz * position_s)
    assert 20 * math.log10((read - expected).abs().max().item() / 0.5) < error_db


def test_rates_are_as_often_slow_as_fast() -> None:
    rate = TimeStretch().draw(tones(440.0, 1).rows(torch.zeros(2_000, dtype=torch.int64)), generator())["rate"]
    assert 0.8 <= rate.min() < 0.81
    assert 1.24 < rate.max() <= 1.25
    assert (rate < 1).double().mean() == pytest.approx(0.5, abs=0.04)
