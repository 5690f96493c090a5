"""Two levels of instruments: eight families, and seven instruments of them ("Musical mixtures", S2).

    SOUNDS = sounds_of('''
        plucked_string/electric_bass = bass: electric bass
        percussion/drums = drums ~ synth: drum machine
        ~ all: Main System, sampler
    ''')
    labels_of([SOUNDS["electric bass"]], "hierarchy15", origin="human", complete=True)

A line of such a table says, before the colon, what the names after it sound like: the family, the specific instrument
if it is one of the seven, the class of `taxonomy.INSTRUMENTS` if it is one, and after `~` the outputs of which nothing
is known: a drum machine may be a synthesizer, and anything may play in a `Main System`.

After "Musical mixtures and transfer learning for multi-instrument classification" (section on the taxonomy), which
discards what has no class; here what is unknown stays unknown.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tutti.datasets.record import ABSENT, PRESENT, Label, Labels
from tutti.datasets.taxonomy import INSTRUMENTS, KINDS

FAMILIES = ("voice", "percussion", "bowed_string", "plucked_string", "woodwind", "brass", "key", "synth")
SPECIFIC = ("singer", "drums", "violin", "electric_guitar", "acoustic_guitar", "electric_bass", "piano")
OUTPUTS = FAMILIES + SPECIFIC

LabelSpace = Literal["canonical", "hierarchy15"]

# Classes of the taxonomy that a masked output may hide.
_HIDDEN: Mapping[str, tuple[str, ...]] = {
    "voice": ("voice",),
    "percussion": ("cymbals", "drums", "mallet_percussion"),
    "bowed_string": ("bass", "cello", "violin"),
    "plucked_string": ("acoustic_guitar", "banjo", "bass", "electric_guitar", "guitar", "mandolin", "ukulele"),
    "woodwind": ("clarinet", "flute", "saxophone"),
    "brass": ("trombone", "trumpet"),
    "key": ("accordion", "organ", "piano"),
    "synth": ("synthesizer",),
    "drums": ("cymbals", "drums"),
    "violin": ("violin",),
    "electric_guitar": ("electric_guitar",),
    "acoustic_guitar": ("acoustic_guitar",),
    "electric_bass": ("bass",),
    "piano": ("piano",),
}


@dataclass(frozen=True)
class Sound:
    """The sound that one name of a corpus stands for."""

    family: str | None  # of FAMILIES; None: several, or unknown
    specific: str | None = None  # of SPECIFIC; None: another instrument, or unknown
    instrument: str | None = None  # of taxonomy.INSTRUMENTS; None: no class of ours
    masked: frozenset[str] = frozenset()  # of OUTPUTS: unknown

    def __post_init__(self) -> None:
        """Refuse names that no level has."""
        if self.family not in (None, *FAMILIES) or self.specific not in (None, *SPECIFIC):
            raise ValueError(f"{self}: families are {', '.join(FAMILIES)}; instruments {', '.join(SPECIFIC)}")
        if self.instrument not in (None, *INSTRUMENTS) or not self.masked <= set(OUTPUTS):
            raise ValueError(f"{self}: no such class, or no such output to mask")

    def outputs(self) -> dict[str, int]:
        """Map the fifteen outputs to their presence where this sounds alone; what is left out is unknown."""
        present = {self.family, self.specific}
        return {
            name: PRESENT if name in present else ABSENT
            for name in OUTPUTS
            if name in present or name not in self.masked
        }

    def classes(self) -> dict[str, int]:
        """Map the classes of the taxonomy to their presence where this sounds alone; what is left out is unknown."""
        hidden = {name for output in self.masked for name in _HIDDEN.get(output, ())} | _generics_of(self)
        return {
            name: PRESENT if name == self.instrument else ABSENT
            for name in INSTRUMENTS
            if name == self.instrument or name not in hidden
        }


UNKNOWN_SOUND = Sound(None, masked=frozenset(OUTPUTS))


def _generics_of(sound: Sound) -> set[str]:
    """List the words that say the same: a guitar of a kind is a guitar, and a guitar may be of either kind."""
    related = {generic for generic, kinds in KINDS.items() if sound.instrument in kinds}
    return related | set(KINDS.get(sound.instrument or "", ()))


def sounds_of(table: str) -> dict[str, Sound]:
    """Read a table, one sound a line; see the head of this file.

    Raises:
        ValueError: a line has another form, or a name stands twice.
    """
    sounds: dict[str, Sound] = {}
    for line in filter(None, map(str.strip, table.splitlines())):
        head, colon, names = line.partition(":")
        if not colon:
            raise ValueError(f"{line!r}: expected family/instrument = class ~ masked: names")
        what, _, masked = (part.strip() for part in head.partition("~"))
        levels, _, instrument = (part.strip() for part in what.partition("="))
        family, _, specific = levels.partition("/")
        sound = Sound(family or None, specific or None, instrument or None, _masked(masked))
        for name in (part.strip() for part in names.split(",")):
            if name in sounds:
                raise ValueError(f"{name!r} stands twice")
            sounds[name] = sound
    return sounds


def _masked(text: str) -> frozenset[str]:
    every, _, but = text.partition(" but ")
    named = frozenset(part.strip() for part in every.split(",") if part.strip())
    return frozenset(OUTPUTS) - {part.strip() for part in but.split(",")} if named == {"all"} else named


def labels_of(sounds: Iterable[Sound], space: LabelSpace, *, origin: str, complete: bool) -> dict[str, Label]:
    """Label what sounds together.

    Args:
        sounds: one or more for a stem, those that sound for a mix.
        space: whose classes.
        origin: of the labels.
        complete: whether nothing else sounds; False (bleed, tags that may lack): what is not named is unknown.
    """
    parts = [sound.outputs() if space == "hierarchy15" else sound.classes() for sound in sounds]
    labels = {}
    for name in classes_of(space):
        found = [part.get(name) for part in parts]
        if PRESENT in found:
            labels[name] = Label(PRESENT, origin)
        elif complete and found and None not in found:
            labels[name] = Label(ABSENT, origin)
    return labels


def outputs_of_labels(labels: Labels) -> dict[str, Label]:
    """Derive labels of the fifteen outputs from labels of classes, as far as these say anything.

    A cello is a bowed string. That there is none says nothing of bowed strings, for there are others; only where a
    class is all of an output does its absence carry over.
    """
    derived = {output: labels[name] for output, name in _WHOLE.items() if name in labels}
    for name, label in labels.items():
        sound = CLASSES.get(name)
        if sound is not None and label.presence == PRESENT:
            derived |= {output: label for output, value in sound.outputs().items() if value == PRESENT}
    return {output: derived[output] for output in OUTPUTS if output in derived}


def classes_of(space: LabelSpace) -> Sequence[str]:
    """List the classes of a label space."""
    return OUTPUTS if space == "hierarchy15" else tuple(INSTRUMENTS)


def fold_artist(name: str) -> str:
    """Reduce an artist's name to what its spellings share: letters and digits, without case and accents.

    `Hops 'n Vinyl`, `HopsNVinyl` and `hops n\u2019 vinyl` are one.
    """
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(character for character in plain if character.isalnum())


# What a class of the taxonomy says of the outputs.
CLASSES = sounds_of("""
    key = accordion: accordion
    key = organ: organ
    key/piano = piano: piano
    plucked_string/acoustic_guitar = acoustic_guitar: acoustic_guitar
    plucked_string/electric_guitar = electric_guitar: electric_guitar
    plucked_string = guitar ~ acoustic_guitar, electric_guitar: guitar
    plucked_string = banjo: banjo
    plucked_string = mandolin: mandolin
    plucked_string = ukulele: ukulele
    = bass ~ plucked_string, bowed_string, synth, electric_bass: bass
    bowed_string = cello: cello
    bowed_string/violin = violin: violin
    woodwind = clarinet: clarinet
    woodwind = flute: flute
    woodwind = saxophone: saxophone
    brass = trombone: trombone
    brass = trumpet: trumpet
    percussion = cymbals ~ drums: cymbals
    percussion/drums = drums: drums
    percussion = mallet_percussion: mallet_percussion
    synth = synthesizer: synthesizer
    voice = voice ~ singer: voice
""")
# Outputs that one class is all of: where it is absent, so are they.
_WHOLE = {
    "voice": "voice",
    "synth": "synthesizer",
    "violin": "violin",
    "piano": "piano",
    "drums": "drums",
    "electric_guitar": "electric_guitar",
    "acoustic_guitar": "acoustic_guitar",
}
