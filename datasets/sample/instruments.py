"""The instruments that can be synthesized: the eleven of IRMAS and four that play beside them.

signal = note("violin", midi=69, duration_s=1.0, timbre=Timbre(), rng=rng)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tutti.datasets.sample import strings, winds
from tutti.datasets.sample.dsp import SAMPLE_RATE, Signal, with_peak
from tutti.datasets.sample.timbre import Timbre

PEAK = 0.9  # of every note
DRUMS = "drums"  # has no notes: `percussion.drum_loop` plays it

NoteFunction: TypeAlias = Callable[[float, int, Timbre, np.random.Generator], Signal]


@dataclass(frozen=True)
class Instrument:
    """A synthesized instrument. Ranges are MIDI numbers of the usual compass, both ends included."""

    play: NoteFunction
    low: int
    high: int
    styles: tuple[str, ...]  # names of music.STYLES
    variants: tuple[str, ...] = ("",)
    ranges: Mapping[str, tuple[int, int]] | None = None  # narrower ones of single variants
    rings: bool = False  # a note decays by itself and may overlap the next

    def compass(self, variant: str) -> tuple[int, int]:
        """Return the lowest and highest MIDI number of a variant."""
        return (self.ranges or {}).get(variant, (self.low, self.high))


INSTRUMENTS: dict[str, Instrument] = {
    "cello": Instrument(strings.cello, 36, 72, ("melody", "melody", "sustained")),
    "clarinet": Instrument(winds.clarinet, 50, 86, ("melody",)),
    "flute": Instrument(winds.flute, 60, 93, ("melody",)),
    "acoustic_guitar": Instrument(
        strings.acoustic_guitar, 40, 79, ("strum", "strum", "arpeggio"), ("nylon", "steel"), rings=True
    ),
    "electric_guitar": Instrument(
        strings.electric_guitar,
        40,
        84,
        ("melody", "power", "strum"),
        ("clean", "crunch", "driven", "driven"),
        rings=True,
    ),
    "organ": Instrument(winds.organ, 48, 88, ("chords",), ("hammond", "pipe")),
    "piano": Instrument(strings.piano, 33, 96, ("two_hands", "two_hands", "arpeggio"), rings=True),
    "saxophone": Instrument(winds.saxophone, 46, 80, ("melody",), ("smooth", "smooth", "growl")),
    "trumpet": Instrument(winds.trumpet, 52, 84, ("melody",), ("open", "open", "muted")),
    "violin": Instrument(strings.violin, 55, 93, ("melody", "melody", "sustained")),
    "voice": Instrument(winds.voice, 43, 79, ("melody",), ("female", "male"), {"female": (55, 79), "male": (43, 66)}),
    # Beside the eleven: labelled by OpenMIC, or only background.
    "bass": Instrument(strings.bass, 28, 48, ("bassline",), rings=True),
    "mallet_percussion": Instrument(
        strings.mallet_percussion, 53, 89, ("melody", "arpeggio"), ("vibraphone", "marimba"), rings=True
    ),
    "synthesizer": Instrument(winds.synthesizer, 40, 80, ("chords", "arpeggio", "melody")),
}


def note(instrument: str, *, midi: float, duration_s: float, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Synthesize one note: mono float64 (num_samples,), peak `PEAK`; it sounds until the player cuts it."""
    num_samples = max(1, round(duration_s * SAMPLE_RATE))
    return with_peak(INSTRUMENTS[instrument].play(midi, num_samples, timbre, rng), PEAK)
