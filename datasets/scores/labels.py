"""Labels of an excerpt, derived from the notes of its score.

Present: sure to be heard for 0.1 s (`playing.py` says for how long a note is). Absent: no key is down within the
excerpt, nor was in the 2 s before. Unknown: what may still ring, and what a section may hold (a string ensemble:
violins? cellos?).
"""

from collections.abc import Mapping

from tutti.datasets.record import ABSENT, DRUMS, PRESENT, Label, Labels, Note, Seconds
from tutti.datasets.scores import general_midi
from tutti.datasets.scores.playing import sounding

GUITARS = ("acoustic_guitar", "electric_guitar")
CLASSES: tuple[str, ...] = tuple(sorted({*general_midi.instruments(), "guitar"}))
MIN_PRESENT_S: Seconds = 0.1  # an instrument must be heard so long: a shorter rest of a note is not to be recognized

# Percussion keys of General MIDI: sure cymbals, and hi-hats, which some corpora count among them.
CYMBAL_KEYS, HI_HAT_KEYS = frozenset((49, 51, 52, 53, 55, 57, 59)), frozenset((42, 44, 46))
# Sections and imitations: what one of these programs may sound like is not known to be absent.
MAY_SOUND_LIKE: Mapping[int, tuple[str, ...]] = {
    15: ("mallet_percussion",),  # dulcimer
    22: ("accordion",),  # harmonica: the same reeds
    41: ("violin", "cello"),  # viola
    44: ("violin", "cello"),
    45: ("violin", "cello"),
    48: ("violin", "cello", "synthesizer"),
    49: ("violin", "cello", "synthesizer"),
    50: ("violin", "cello"),
    51: ("violin", "cello"),
    54: ("synthesizer",),  # synth voice
    55: ("trumpet", "trombone", "violin", "synthesizer"),  # orchestra hit
    61: ("trumpet", "trombone", "saxophone"),  # brass section
    62: ("trumpet", "trombone"),
    63: ("trumpet", "trombone"),
    85: ("voice",),
    91: ("voice",),
    38: ("synthesizer",),  # synthesizer basses
    39: ("synthesizer",),
}


def labels_of(notes: tuple[Note, ...], start_s: Seconds, end_s: Seconds) -> Labels:
    """Derive the labels of an excerpt from the notes of its score; an instrument left out is unknown."""
    present_s = dict.fromkeys(CLASSES, 0.0)
    possible: set[str] = set()
    for note in notes:
        sure, maybe = sounding(note)
        if maybe[0] >= end_s or maybe[1] <= start_s:
            continue
        heard_s = max(0.0, min(sure[1], end_s) - max(sure[0], start_s))
        for name in sounded_by(note):
            present_s[name] += heard_s
            possible.add(name)
        possible.update(MAY_SOUND_LIKE.get(note.program, ()))
        if note.program == DRUMS and note.pitch in HI_HAT_KEYS:
            possible.add("cymbals")
    present = {name: Label(PRESENT, "score") for name in CLASSES if present_s[name] >= MIN_PRESENT_S - 1e-9}
    return {**present, **{name: Label(ABSENT, "score") for name in CLASSES if name not in possible}}


def sounded_by(note: Note) -> tuple[str, ...]:
    """List the classes that a note makes present: also the general one where the taxonomy has both."""
    if note.instrument is None:
        return ()
    if note.instrument in GUITARS:
        return note.instrument, "guitar"
    if note.program == DRUMS and note.pitch in CYMBAL_KEYS:
        return note.instrument, "cymbals"
    return (note.instrument,)
