"""Delays from key to audible onset of each General MIDI program, for alignment with soft attacks.

A hammer or a plectrum is heard at once, a church organ or a pad only when it has swelled. Times are relative to a
piano's, as decoding/align.py sees them: where, on average over many notes, the rise of a note's partials begins to
show. Compressed levels rise first where a sound comes out of nothing, so these are much shorter than a swell.

Measured by `python -m benchmarks.alignment --attacks` on eight dry solos a program (composed, 12 to 18 s) with four
soundfonts of two families: FluidR3 and MuseScore General, TimGM6mb and Csound's GM bank. Medians over solos, then
over soundfonts. The families agree within 4 ms for half of the programs, and differ by more than 20 ms
for pads alone: 89 and 95, and 101, where they differ by 0.1 s.
"""

from collections.abc import Mapping

from tutti.datasets.record import Seconds

# Milliseconds, eight programs a row, as General MIDI groups them; the last entry is percussion.
_LATENESS_MS: tuple[int, ...] = (
    0, 1, -2, -3, -6, -3, 3, -6,  # 0: piano
    -3, -4, -3, -2, -6, -5, -3, -2,  # 8: chromatic percussion
    0, -1, -1, 19, 17, 5, 3, 5,  # 16: organ
    3, 1, -1, 1, -3, 16, 8, 0,  # 24: guitar
    6, -1, 10, 1, -4, -7, -4, -3,  # 32: bass
    13, 16, 12, 11, 26, 0, 6, -5,  # 40: strings
    22, 61, 22, 30, 15, 13, 17, 10,  # 48: ensemble
    3, 14, 8, 2, 17, 16, -3, 2,  # 56: brass
    9, 6, 10, 3, 3, 7, 4, 6,  # 64: reed
    16, 14, 16, 10, 7, 16, 2, 5,  # 72: pipe
    -8, -5, 3, -2, -4, 6, -1, -7,  # 80: synth lead
    13, 33, 3, 16, 25, 31, 13, 26,  # 88: synth pad
    -2, 28, -1, 8, 4, 80, 13, 19,  # 96: synth effects
    0, -3, 2, 0, -7, 2, 8, 3,  # 104: ethnic
    -3, -3, -2, 0, 0, 0, 0, 0,  # 112: percussive: from the woodblock on without pitch, not measured
    0, 0, 0, 0, 0, 0, 0, 0,  # 120: sound effects: not measured
    -3,
)  # fmt: skip
LATENESS_S: Mapping[int, Seconds] = {program: late_ms / 1000 for program, late_ms in enumerate(_LATENESS_MS)}
