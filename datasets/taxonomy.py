"""Canonical instruments and their families. Upstream codes stay in the source that uses them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """One class that a corpus can label."""

    name: str
    family: str  # Hornbostel-Sachs in spirit, as in Lumen 2023 (strings, brass, woodwind, ...)
    display_name: str


def _table(*rows: tuple[str, str, str]) -> dict[str, Instrument]:
    return {name: Instrument(name, family, display) for name, family, display in rows}


INSTRUMENTS: dict[str, Instrument] = _table(
    ("accordion", "keyboard", "Accordion"),
    ("acoustic_guitar", "plucked_string", "Acoustic guitar"),
    ("banjo", "plucked_string", "Banjo"),
    ("bass", "plucked_string", "Bass"),
    ("cello", "bowed_string", "Cello"),
    ("clarinet", "woodwind", "Clarinet"),
    ("cymbals", "percussion", "Cymbals"),
    ("drums", "percussion", "Drums"),
    ("electric_guitar", "plucked_string", "Electric guitar"),
    ("flute", "woodwind", "Flute"),
    ("guitar", "plucked_string", "Guitar (acoustic or electric)"),
    ("mallet_percussion", "percussion", "Mallet percussion"),
    ("mandolin", "plucked_string", "Mandolin"),
    ("organ", "keyboard", "Organ"),
    ("piano", "keyboard", "Piano"),
    ("saxophone", "woodwind", "Saxophone"),
    ("synthesizer", "keyboard", "Synthesizer"),
    ("trombone", "brass", "Trombone"),
    ("trumpet", "brass", "Trumpet"),
    ("ukulele", "plucked_string", "Ukulele"),
    ("violin", "bowed_string", "Violin"),
    ("voice", "voice", "Voice"),
)

# The eleven classes that IRMAS, and after it the Lumen paper, annotate.
IRMAS_INSTRUMENTS: tuple[str, ...] = (
    "cello",
    "clarinet",
    "flute",
    "acoustic_guitar",
    "electric_guitar",
    "organ",
    "piano",
    "saxophone",
    "trumpet",
    "violin",
    "voice",
)

# A generic label, and the classes that it may be: one of them, or several at once.
KINDS: dict[str, tuple[str, ...]] = {"guitar": ("acoustic_guitar", "electric_guitar")}
