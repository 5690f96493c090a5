"""Families and instruments that the notes of a score make sound: labels of the fifteen outputs of hierarchy.py.

As `labels.py` does for classes: present is what is sure to be heard for 0.1 s, absent what neither sounds nor may
still ring, unknown the rest, and what a program may hold besides (a section's violins, a synthesizer's choir).
"""

from tutti.datasets.hierarchy import OUTPUTS, sounds_of
from tutti.datasets.record import ABSENT, DRUMS, PRESENT, Label, Labels, Note, Seconds
from tutti.datasets.scores.labels import MIN_PRESENT_S
from tutti.datasets.scores.playing import sounding

# Programs count from 0. A soundfont plays what General MIDI says, unlike Slakh's patches.
_SOUNDS = sounds_of("""
    key/piano: 0, 1, 3
    key ~ piano: 2, 4, 5
    key: 6, 7, 16, 17, 18, 19, 20, 21, 23
    percussion: 8, 9, 10, 11, 12, 13, 14, 47, 108, 112, 113, 114, 115
    ~ percussion, plucked_string: 15
    ~ key, woodwind: 22
    plucked_string/acoustic_guitar: 24, 25
    plucked_string/electric_guitar: 26, 27, 28, 29, 30, 31
    bowed_string: 32, 41, 42, 43
    plucked_string/electric_bass: 33, 34, 35, 36, 37
    synth ~ plucked_string, electric_bass: 38, 39
    bowed_string/violin: 40, 110
    bowed_string ~ violin: 44, 45, 48, 49
    synth ~ bowed_string, violin: 50, 51
    plucked_string: 46, 104, 105, 106, 107
    voice ~ singer: 52, 53
    ~ voice, singer, synth: 54
    ~ all: 55, 120, 121, 122, 123, 124, 125, 126, 127
    brass: 56, 57, 58, 59, 60
    brass ~ woodwind: 61
    synth ~ brass: 62, 63
    woodwind: 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 109, 111
    synth: 80, 81, 82, 83, 84, 86, 87, 88, 89, 90, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103
    synth ~ voice, singer: 85, 91
    percussion ~ drums: 116, 117, 119
    percussion ~ drums, synth: 118
    percussion/drums: 128
""")
# Keys of the percussion channel that are no part of a drum kit: tambourine, cowbell, vibraslap, and from bongos up.
_BESIDE_KITS = frozenset((54, 56, 58, *range(60, 82)))
_HEARD = {name: sound.outputs() for name, sound in _SOUNDS.items()}
_PRESENT = {name: tuple(o for o, value in outputs.items() if value == PRESENT) for name, outputs in _HEARD.items()}
_UNKNOWN = {name: tuple(o for o in OUTPUTS if o not in outputs) for name, outputs in _HEARD.items()}


def families_of(notes: tuple[Note, ...], start_s: Seconds, end_s: Seconds) -> Labels:
    """Derive the labels of an excerpt from the notes of its score; an output left out is unknown."""
    present_s = dict.fromkeys(OUTPUTS, 0.0)
    possible: set[str] = set()
    for note in notes:
        sure, maybe = sounding(note)
        if maybe[0] >= end_s or maybe[1] <= start_s:
            continue
        heard_s = max(0.0, min(sure[1], end_s) - max(sure[0], start_s))
        program = str(note.program)
        for name in _PRESENT[program]:
            possible.add(name)
            if not (name == "drums" and note.program == DRUMS and note.pitch in _BESIDE_KITS):
                present_s[name] += heard_s
        possible.update(_UNKNOWN[program])
    return {
        name: Label(PRESENT if present_s[name] >= MIN_PRESENT_S - 1e-9 else ABSENT, "score")
        for name in OUTPUTS
        if present_s[name] >= MIN_PRESENT_S - 1e-9 or name not in possible
    }
