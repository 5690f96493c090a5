"""Notes of strings: plucked (guitars, bass), struck (piano, mallets) and bowed (cello, violin).

Every function answers one note as a `Signal` of any level; `instruments.note` sets the level.
A plucked or struck note decays by itself, a bowed one sounds until the player cuts it.
Models after Fletcher & Rossing, The Physics of Musical Instruments: stiff-string partials
f_k = k f0 sqrt(1 + B k^2), excitation spectrum |sin(k pi p)| / k, body resonances as bumps.
"""

import numpy as np

from tutti.datasets.sample.dsp import (
    SAMPLE_RATE,
    Signal,
    attack_curve,
    control_times_s,
    decaying_partials,
    fade_edges,
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

_GUITAR_BODY = ((105.0, 7.0, 0.2), (205.0, 6.0, 0.2), (420.0, 4.0, 0.3), (2400.0, 3.0, 0.6))
_PICKUP = ((900.0, 3.0, 0.9), (3100.0, 11.0, 0.5))
_CELLO_BODY = ((98.0, 5.0, 0.2), (180.0, 6.0, 0.2), (230.0, 4.0, 0.2), (420.0, 5.0, 0.4), (1500.0, 4.0, 0.5))
_VIOLIN_BODY = ((280.0, 6.0, 0.15), (460.0, 7.0, 0.15), (550.0, 6.0, 0.15), (1000.0, 4.0, 0.3), (2700.0, 12.0, 0.45))
_PIANO_BODY = ((120.0, 3.0, 0.5), (1200.0, 2.0, 1.0))


def _shifted(body: tuple[tuple[float, float, float], ...], factor: float) -> tuple[tuple[float, float, float], ...]:
    return tuple((centre * factor, height, width) for centre, height, width in body)


def _burst(rng: np.random.Generator, num_samples: int, low_hz: float, high_hz: float, decay_s: float) -> Signal:
    """Draw a short noise at the start of a note: pick, hammer, key."""
    length = min(num_samples, int(6 * decay_s * SAMPLE_RATE))
    burst = np.zeros(num_samples)
    fall = np.exp(-np.arange(length) / (decay_s * SAMPLE_RATE))
    burst[:length] = noise_band(rng, length, low_hz, high_hz) * fall
    return burst


def _pluck(
    midi: float, num_samples: int, timbre: Timbre, *, stiffness: float, slope: float, ring_s: float, damping_hz: float
) -> tuple[Signal, Signal, Signal]:
    """Compute frequencies, amplitudes and decays of a plucked string, before body or pickup."""
    frequency_hz = midi_to_hz(midi + timbre.detune_cents / 100)
    order = harmonic_numbers(frequency_hz, 60)
    frequencies = order * frequency_hz * np.sqrt((1 + stiffness * order**2) / (1 + stiffness))
    place = 0.1 + 0.2 * timbre.position
    amplitudes = (np.abs(np.sin(np.pi * place * order)) + 0.02) / order ** (slope - 0.35 * timbre.brightness)
    decays = ring_s * (110 / frequency_hz) ** 0.4 / (1 + (frequencies / damping_hz) ** 1.3)
    audible = frequencies < 19_000
    return frequencies[audible], amplitudes[audible], decays[audible]


def acoustic_guitar(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play a steel or nylon string over a wooden box, plucked by pick or finger."""
    nylon = timbre.variant == "nylon"
    frequencies, amplitudes, decays = _pluck(
        midi,
        num_samples,
        timbre,
        stiffness=3e-5 if nylon else 8e-5,
        slope=1.35 if nylon else 1.0,
        ring_s=3.2 if nylon else 4.5,
        damping_hz=1500 if nylon else 2600,
    )
    body = resonance_gain(frequencies, _shifted(_GUITAR_BODY, timbre.body))
    phases = timbre.phases(len(frequencies))
    tone = decaying_partials(frequencies, amplitudes * body, decays, phases, num_samples)
    level = float(np.max(np.abs(tone[:4410])))
    box = np.array([105.0, 205.0]) * timbre.body
    thump = decaying_partials(box, np.array([1.0, 0.7]), np.array([0.25, 0.18]), np.zeros(2), num_samples)
    pick = _burst(rng, num_samples, 1200, 3000 if nylon else 7000, 0.006 if nylon else 0.004)
    tone += level * timbre.noise * (0.15 * thump + (0.05 if nylon else 0.09) * pick)
    return fade_edges(tone, 0.0015 * timbre.attack, 0)


def electric_guitar(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play a steel string through a magnetic pickup: long sustain, no box; `music` adds the amplifier."""
    frequencies, amplitudes, decays = _pluck(
        midi, num_samples, timbre, stiffness=6e-5, slope=1.05, ring_s=9.0, damping_hz=2200
    )
    order = np.arange(1, len(frequencies) + 1)
    pickup_place = 0.08 + 0.14 * (1 - timbre.position)  # a second comb: where the pickup listens
    amplitudes = amplitudes * (np.abs(np.sin(np.pi * pickup_place * order)) + 0.03) * order**0.35
    amplitudes = amplitudes * resonance_gain(frequencies, _shifted(_PICKUP, timbre.body))
    amplitudes = amplitudes / (1 + (frequencies / 5000) ** 4)  # the coil and cable cut the top
    tone = decaying_partials(frequencies, amplitudes, decays, timbre.phases(len(frequencies)), num_samples)
    level = float(np.max(np.abs(tone[:4410])))
    tone += level * 0.03 * timbre.noise * _burst(rng, num_samples, 800, 3500, 0.004)
    return fade_edges(tone, 0.002 * timbre.attack, 0)


def bass(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play an electric bass, fingered."""
    frequencies, amplitudes, decays = _pluck(
        midi, num_samples, timbre, stiffness=1e-4, slope=1.5, ring_s=4.0, damping_hz=900
    )
    tone = decaying_partials(frequencies, amplitudes, decays, timbre.phases(len(frequencies)), num_samples)
    return fade_edges(tone, 0.006 * timbre.attack, 0)


def piano(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play struck stiff strings: two per note, slightly apart, so that the decay is double and beats."""
    frequency_hz = midi_to_hz(midi + timbre.detune_cents / 100)
    stiffness = 1.5e-4 * 2 ** ((midi - 49) / 9) if midi > 49 else 1.5e-4
    order = harmonic_numbers(frequency_hz, 45)
    frequencies = order * frequency_hz * np.sqrt((1 + stiffness * order**2) / (1 + stiffness))
    audible = frequencies < 17_000
    order, frequencies = order[audible], frequencies[audible]
    strike = 0.11 + 0.04 * timbre.position
    # The felt is harder for higher notes and for a brighter instrument.
    felt_hz = 900 * 2 ** (0.9 * timbre.brightness) * (frequency_hz / 260) ** 0.45
    amplitudes = (np.abs(np.sin(np.pi * strike * order)) + 0.05) / (1 + (frequencies / felt_hz) ** 1.6)
    amplitudes = amplitudes * resonance_gain(frequencies, _shifted(_PIANO_BODY, timbre.body))
    decays = 12 * (65 / frequency_hz) ** 0.75 / (1 + (frequencies / 2500) ** 0.9)
    split = 2 ** (rng.uniform(0.3, 1.2) / 1200)
    phases = timbre.phases(len(frequencies))
    tone = decaying_partials(
        np.concatenate([frequencies, frequencies * split]),
        np.concatenate([amplitudes, 0.45 * amplitudes]),
        np.concatenate([0.45 * decays, 1.4 * decays]),
        np.concatenate([phases, phases]),
        num_samples,
    )
    level = float(np.max(np.abs(tone[:4410])))
    knock = _burst(rng, num_samples, 90, 900, 0.02) + 0.3 * _burst(rng, num_samples, 900, 4000, 0.006)
    tone += 0.045 * level * timbre.noise * knock
    return fade_edges(tone, 0.0025 * timbre.attack, 0)


def mallet_percussion(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play a vibraphone or marimba bar: modes tuned 1 : 4 : 10."""
    metal = timbre.variant == "vibraphone"
    frequency_hz = midi_to_hz(midi + timbre.detune_cents / 100)
    modes = np.array([1.0, 3.98, 9.9])
    amplitudes = np.array([1.0, 0.3 if metal else 0.18, 0.12]) * np.exp(0.3 * timbre.brightness * np.arange(3))
    decays = (6.0 if metal else 0.9) / np.array([1.0, 3.0, 9.0])
    audible = modes * frequency_hz < 18_000
    tone = decaying_partials(
        (modes * frequency_hz)[audible], amplitudes[audible], decays[audible], np.zeros(int(audible.sum())), num_samples
    )
    tone += 0.03 * timbre.noise * _burst(rng, num_samples, 800, 5000, 0.004)
    if metal:  # the rotating discs of the resonators
        times_s = np.arange(num_samples) / SAMPLE_RATE
        tone *= 1 + 0.25 * timbre.vibrato * np.sin(2 * np.pi * timbre.vibrato_hz * times_s)
    return fade_edges(tone, 0.002, 0)


def _bowed(
    midi: float,
    num_samples: int,
    timbre: Timbre,
    rng: np.random.Generator,
    *,
    body: tuple[tuple[float, float, float], ...],
    top_hz: float,
    attack_s: float,
) -> Signal:
    """Play Helmholtz motion (about 1/k) through a body; vibrato sets in late, the bow hisses."""
    times_s = control_times_s(num_samples)
    onset = attack_curve(times_s - 0.12, 0.3)
    vibrato_cents = 22 * timbre.vibrato * onset * np.sin(2 * np.pi * timbre.vibrato_hz * times_s + rng.uniform(0, 6))
    cents = vibrato_cents + timbre.detune_cents + 4 * wander(rng, times_s, 6)
    center_hz = midi_to_hz(midi)
    order = harmonic_numbers(center_hz)
    frequencies = order * center_hz
    place = 0.07 + 0.09 * timbre.position
    slope = 1.0 - 0.25 * timbre.brightness
    amplitudes = (np.abs(np.sin(np.pi * place * order)) + 0.15) / order**slope
    amplitudes = amplitudes * resonance_gain(frequencies, _shifted(body, timbre.body))
    amplitudes = amplitudes / (1 + (frequencies / (top_hz * 2 ** (0.5 * timbre.brightness))) ** 3)
    phases = timbre.phases(len(order))
    bright = wavetable(amplitudes, phases)
    dull = wavetable(amplitudes / order**0.6, phases)
    pressure = attack_curve(times_s, attack_s * timbre.attack) * (1 + 0.1 * wander(rng, times_s, 7))
    # Vibrato moves the partials over the resonances: heard as a slight brightness vibrato.
    blend = np.clip(0.75 * pressure + 0.006 * vibrato_cents, 0, 1)
    tone = oscillate(upsample(center_hz * 2 ** (cents / 1200), num_samples), dull, bright, upsample(blend, num_samples))
    scratch = 1 + 3 * np.exp(-times_s / 0.05)
    hiss = noise_band(rng, num_samples, 1500, top_hz) * upsample(scratch, num_samples)
    return (tone + 0.035 * timbre.noise * hiss) * upsample(pressure, num_samples)


def cello(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play a bowed, warm string: resonances from 100 Hz, little above 4 kHz."""
    return _bowed(midi, num_samples, timbre, rng, body=_CELLO_BODY, top_hz=3200, attack_s=0.09)


def violin(midi: float, num_samples: int, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Play a bowed string with the air resonance near 280 Hz and the bridge hill near 2.6 kHz."""
    return _bowed(midi, num_samples, timbre, rng, body=_VIOLIN_BODY, top_hz=7500, attack_s=0.06)
