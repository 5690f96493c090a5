"""Notes of winds, voice, organ and synthesizer: driven oscillators that sound until they are cut.

Every function answers one note as a `Signal` of any level; `instruments.note` sets the level.
"""

import numpy as np

from tutti.datasets.sample.dsp import (
    SAMPLE_RATE,
    Signal,
    attack_curve,
    control_times_s,
    formant_gain,
    harmonic_numbers,
    midi_to_hz,
    noise_band,
    oscillate,
    resonance_gain,
    upsample,
    wander,
    wavetable,
)
from tutti.datasets.sample.timbre import Timbre

# First three formants of Peterson & Barney 1952 (men), plus the singer's cluster near 3 kHz.
_VOWELS = {
    "a": (730.0, 1090.0, 2440.0),
    "e": (530.0, 1840.0, 2480.0),
    "i": (270.0, 2290.0, 3010.0),
    "o": (570.0, 840.0, 2410.0),
    "u": (300.0, 870.0, 2240.0),
}
_BANDWIDTHS_HZ = (80.0, 100.0, 140.0)
_DRAWBARS = np.array([1, 3, 2, 4, 6, 8, 10, 12, 16])  # 16' 5 1/3' 8' 4' 2 2/3' 2' 1 3/5' 1 1/3' 1' over f0 / 2
_REGISTRATIONS = (
    (5, 6, 8, 6, 0, 4, 0, 0, 4),
    (5, 4, 8, 7, 4, 5, 0, 3, 4),
    (4, 0, 8, 7, 3, 6, 0, 0, 5),
    (6, 6, 8, 7, 5, 5, 4, 4, 6),
)


def _pitch(
    midi: float,
    num_samples: int,
    timbre: Timbre,
    rng: np.random.Generator,
    *,
    vibrato_cents: float,
    delay_s: float,
    scoop_cents: float = 0.0,
    drift_cents: float = 3.0,
) -> tuple[Signal, Signal]:
    """Compute the frequency as a curve, and the vibrato in [-1, 1] at control rate."""
    times_s = control_times_s(num_samples)
    depth = attack_curve(times_s - delay_s, 0.3)
    vibrato = depth * np.sin(2 * np.pi * timbre.vibrato_hz * times_s + rng.uniform(0, 2 * np.pi))
    cents = timbre.detune_cents + vibrato_cents * timbre.vibrato * vibrato
    cents = cents + drift_cents * wander(rng, times_s, 5) - scoop_cents * np.exp(-times_s / 0.04)
    return upsample(midi_to_hz(midi) * 2 ** (cents / 1200), num_samples), vibrato


def clarinet(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play a closed tube: odd partials in the low register, even ones join with frequency; no vibrato."""
    frequency, _ = _pitch(midi, num_samples, timbre, rng, vibrato_cents=2, delay_s=0.2, scoop_cents=10)
    center_hz = midi_to_hz(midi)
    order = harmonic_numbers(center_hz)
    frequencies = order * center_hz
    even = np.minimum(1.0, 0.03 + (frequencies / 3500) ** 1.5)
    amplitudes = np.where(order % 2 == 1, 1.0, even) / order ** (1.0 - 0.3 * timbre.brightness)
    amplitudes = amplitudes * resonance_gain(frequencies, ((1500 * timbre.body, 4.0, 0.5),))
    amplitudes = amplitudes / (1 + (frequencies / (2600 * 2 ** (0.6 * timbre.brightness))) ** 2.5)
    phases = timbre.phases(len(order))
    times_s = control_times_s(num_samples)
    level = attack_curve(times_s, 0.045 * timbre.attack) * (1 + 0.05 * wander(rng, times_s, 4))
    bright, dull = wavetable(amplitudes, phases), wavetable(amplitudes / order**0.9, phases)
    tone = oscillate(frequency, dull, bright, upsample(np.clip(level, 0, 1) ** 2, num_samples))
    breath = noise_band(rng, num_samples, 1000, 5000)
    return (tone + 0.018 * timbre.noise * breath) * upsample(level, num_samples)


def flute(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play few partials with breath around the tone, vibrato more of loudness than of pitch, a chiff at the start."""
    frequency, vibrato = _pitch(midi, num_samples, timbre, rng, vibrato_cents=9, delay_s=0.1, scoop_cents=15)
    center_hz = midi_to_hz(midi)
    order = harmonic_numbers(center_hz, 14)
    # Low notes are richer; the octave may rival the fundamental.
    slope = 1.7 + 0.7 * np.clip((midi - 60) / 30, 0, 1) - 0.4 * timbre.brightness
    amplitudes = 1 / order**slope
    amplitudes[1::2] *= 0.7 + 0.8 * timbre.position
    phases = timbre.phases(len(order))
    times_s = control_times_s(num_samples)
    level = attack_curve(times_s, 0.07 * timbre.attack)
    level = level * (1 + 0.16 * timbre.vibrato * vibrato) * (1 + 0.05 * wander(rng, times_s, 5))
    blend = np.clip(0.6 * level + 0.2 * vibrato, 0, 1)
    bright, dull = wavetable(amplitudes, phases), wavetable(amplitudes / order**0.9, phases)
    tone = oscillate(frequency, dull, bright, upsample(blend, num_samples))
    chiff = upsample(0.5 + 0.5 * level + 2 * np.exp(-times_s / 0.03), num_samples)
    breath = noise_band(rng, num_samples, 0.7 * center_hz, 5000) * chiff
    return tone * upsample(level, num_samples) + 0.05 * timbre.noise * breath


def saxophone(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play a conical reed: strong partials, a formant near 1 kHz, scooped onsets, breath, at times a growl."""
    frequency, vibrato = _pitch(midi, num_samples, timbre, rng, vibrato_cents=18, delay_s=0.2, scoop_cents=70)
    center_hz = midi_to_hz(midi)
    order = harmonic_numbers(center_hz)
    frequencies = order * center_hz
    amplitudes = resonance_gain(
        frequencies, ((750 * timbre.body, 10.0, 0.6), (2400 * timbre.body, 5.0, 0.5), (4200 * timbre.body, 4.0, 0.3))
    )
    amplitudes = amplitudes / order ** (0.75 - 0.25 * timbre.brightness)
    amplitudes = amplitudes / (1 + (frequencies / (3600 * 2 ** (0.5 * timbre.brightness))) ** 3)
    phases = timbre.phases(len(order))
    times_s = control_times_s(num_samples)
    level = attack_curve(times_s, 0.03 * timbre.attack)
    level = level * (1 + 0.1 * timbre.vibrato * vibrato) * (1 + 0.08 * wander(rng, times_s, 6))
    bright, dull = wavetable(amplitudes, phases), wavetable(amplitudes / order**0.9, phases)
    tone = oscillate(frequency, dull, bright, upsample(np.clip(0.8 * level, 0, 1), num_samples))
    if timbre.variant == "growl":
        times = np.arange(num_samples) / SAMPLE_RATE
        tone *= 1 + 0.35 * np.sin(2 * np.pi * rng.uniform(24, 38) * times)
    breath = noise_band(rng, num_samples, 700, 6000)
    return (tone + 0.05 * timbre.noise * breath) * upsample(level, num_samples)


def trumpet(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play a tone whose brightness follows the envelope: dull at start and end, brassy at the peak of the attack."""
    frequency, _ = _pitch(midi, num_samples, timbre, rng, vibrato_cents=7, delay_s=0.35, scoop_cents=30)
    center_hz = midi_to_hz(midi)
    order = harmonic_numbers(center_hz)
    frequencies = order * center_hz
    formants = [(1300 * timbre.body, 8.0, 0.6)]
    if timbre.variant == "muted":
        formants = [(1900 * timbre.body, 14.0, 0.35), (500 * timbre.body, -8.0, 0.6)]
    amplitudes = resonance_gain(frequencies, tuple(formants)) / order**0.35
    amplitudes = amplitudes / (1 + (frequencies / (3300 * 2 ** (0.6 * timbre.brightness))) ** 2.5)
    phases = timbre.phases(len(order))
    times_s = control_times_s(num_samples)
    attack_s = 0.035 * timbre.attack
    level = attack_curve(times_s, attack_s) * (0.8 + 0.35 * np.exp(-times_s / 0.12))
    level = level * (1 + 0.04 * wander(rng, times_s, 5))
    bright, dull = wavetable(amplitudes, phases), wavetable(amplitudes / order**1.4, phases)
    tone = oscillate(frequency, dull, bright, upsample(np.clip(level, 0, 1) ** 2, num_samples))
    breath = noise_band(rng, num_samples, 1500, 7000)
    return (tone + 0.008 * timbre.noise * breath) * upsample(level, num_samples)


def _vowel(name: str, size: float, singer_db: float) -> tuple[tuple[float, float, float], ...]:
    first, second, third = (frequency * size for frequency in _VOWELS[name])
    widths = _BANDWIDTHS_HZ
    singer = 10 ** (singer_db / 20)
    return (
        (first, 1.0, widths[0]),
        (second, 0.5, widths[1]),
        (third, 0.22, widths[2]),
        (3100 * size**0.5, 0.16 * singer, 350.0),
    )


def voice(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play glottal pulses through a vocal tract that moves from one vowel to another."""
    size = timbre.body * (1.17 if timbre.variant == "female" else 1.0)  # women's tracts are shorter
    frequency, vibrato = _pitch(
        midi, num_samples, timbre, rng, vibrato_cents=45, delay_s=0.15, scoop_cents=90, drift_cents=12
    )
    center_hz = midi_to_hz(midi)
    order = harmonic_numbers(center_hz)
    frequencies = order * center_hz
    # Glottal flow falls by 12 dB per octave, radiation at the lips gives back 6.
    glottis = 1 / order ** (1.05 - 0.3 * timbre.brightness)
    first, second = (list(_VOWELS)[int(index)] for index in rng.integers(len(_VOWELS), size=2))
    singer_db = 6 * timbre.brightness
    phases = timbre.phases(len(order))
    here = wavetable(glottis * formant_gain(frequencies, _vowel(first, size, singer_db)), phases)
    there = wavetable(glottis * formant_gain(frequencies, _vowel(second, size, singer_db)), phases)
    times_s = control_times_s(num_samples)
    level = attack_curve(times_s, 0.06 * timbre.attack) * (1 + 0.08 * vibrato + 0.08 * wander(rng, times_s, 4))
    move = attack_curve(times_s - rng.uniform(0.05, 0.4), rng.uniform(0.08, 0.3))
    tone = oscillate(frequency, here, there, upsample(move, num_samples))
    consonant = upsample(1 + 5 * np.exp(-times_s / 0.03), num_samples)
    breath = noise_band(rng, num_samples, 1800, 7000) * consonant
    return tone * upsample(level, num_samples) + 0.018 * timbre.noise * breath


def organ(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play steady stops: Hammond drawbars with key click and rotor, or ranks of pipes with chiff."""
    half_hz = midi_to_hz(midi - 12 + timbre.detune_cents / 100)  # the 16' stop sounds an octave below
    amplitudes = np.zeros(len(harmonic_numbers(half_hz, 96)))
    times_s = control_times_s(num_samples)
    if timbre.variant == "hammond":
        choice = _REGISTRATIONS[int(timbre.position * len(_REGISTRATIONS)) % len(_REGISTRATIONS)]
        for harmonic, stop in zip(_DRAWBARS, choice, strict=True):
            if stop and harmonic <= len(amplitudes):
                amplitudes[harmonic - 1] += 10 ** ((3 * (stop - 8)) / 20)  # 3 dB per step of a drawbar
        rotor = timbre.vibrato * np.sin(2 * np.pi * timbre.vibrato_hz * 1.1 * times_s)
        cents, level = 7 * rotor, (1 + 0.16 * rotor) * attack_curve(times_s, 0.004)
        onset = noise_band(rng, num_samples, 1500, 6000) * upsample(np.exp(-times_s / 0.004), num_samples) * 0.35
    else:
        ranks = ((1, 0.25), (2, 1.0), (4, 0.6), (8, 0.45 + 0.25 * timbre.brightness), (12, 0.25), (16, 0.2))
        for footage, gain in ranks:
            order = np.arange(1, min(12, len(amplitudes) // footage) + 1)
            amplitudes[order * footage - 1] += max(gain, 0) / order ** (1.6 - 0.4 * timbre.brightness)
        cents, level = np.zeros_like(times_s), attack_curve(times_s, 0.05 * timbre.attack)
        onset = noise_band(rng, num_samples, 600, 4000) * upsample(0.012 + 0.1 * np.exp(-times_s / 0.03), num_samples)
    table = wavetable(amplitudes, timbre.phases(len(amplitudes)))
    tone = oscillate(upsample(half_hz * 2 ** (cents / 1200), num_samples), table)
    return tone * upsample(level, num_samples) + timbre.noise * onset


def synthesizer(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play two detuned sawtooths under a moving low-pass: not one of the eleven, but often beside them."""
    times_s = control_times_s(num_samples)
    base_hz = midi_to_hz(midi + timbre.detune_cents / 100)
    order = harmonic_numbers(base_hz)
    phases = np.zeros(len(order)) - np.pi / 2
    bright = wavetable(1.0 / order, phases)
    dull = wavetable(1.0 / order / (1 + (order * base_hz / 900) ** 3), phases)
    sweep = upsample(0.5 + 0.45 * np.sin(2 * np.pi * 0.4 * times_s + rng.uniform(0, 6)), num_samples)
    steady = np.ones(num_samples) * base_hz
    tone = sum(oscillate(steady * 2 ** (cents / 1200), dull, bright, sweep) for cents in (-9.0, 8.0))
    return np.asarray(tone) * upsample(attack_curve(times_s, 0.08 * timbre.attack), num_samples)
