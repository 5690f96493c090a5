"""General MIDI: the 128 programs by their official names, and the instrument that each stands for.

Programs are 0-based, as they stand in a file (printed lists count from 1). A program that would
need a class of its own (viola, tuba, harp, oboe, ...) stands for nothing: its notes are kept, but
no label speaks of them. The percussion channel is `DRUMS`, one above the last program.
"""

from tutti.datasets.record import DRUMS

# General MIDI System Level 1, "Instrument Patch Map"
PROGRAM_NAMES: tuple[str, ...] = (
    # 0: piano
    "Acoustic Grand Piano", "Bright Acoustic Piano", "Electric Grand Piano", "Honky-tonk Piano",
    "Electric Piano 1", "Electric Piano 2", "Harpsichord", "Clavi",
    # 8: chromatic percussion
    "Celesta", "Glockenspiel", "Music Box", "Vibraphone", "Marimba", "Xylophone", "Tubular Bells", "Dulcimer",
    # 16: organ
    "Drawbar Organ", "Percussive Organ", "Rock Organ", "Church Organ", "Reed Organ", "Accordion", "Harmonica",
    "Tango Accordion",
    # 24: guitar
    "Acoustic Guitar (nylon)", "Acoustic Guitar (steel)", "Electric Guitar (jazz)", "Electric Guitar (clean)",
    "Electric Guitar (muted)", "Overdriven Guitar", "Distortion Guitar", "Guitar harmonics",
    # 32: bass
    "Acoustic Bass", "Electric Bass (finger)", "Electric Bass (pick)", "Fretless Bass", "Slap Bass 1", "Slap Bass 2",
    "Synth Bass 1", "Synth Bass 2",
    # 40: strings
    "Violin", "Viola", "Cello", "Contrabass", "Tremolo Strings", "Pizzicato Strings", "Orchestral Harp", "Timpani",
    # 48: ensemble
    "String Ensemble 1", "String Ensemble 2", "SynthStrings 1", "SynthStrings 2", "Choir Aahs", "Voice Oohs",
    "Synth Voice", "Orchestra Hit",
    # 56: brass
    "Trumpet", "Trombone", "Tuba", "Muted Trumpet", "French Horn", "Brass Section", "SynthBrass 1", "SynthBrass 2",
    # 64: reed
    "Soprano Sax", "Alto Sax", "Tenor Sax", "Baritone Sax", "Oboe", "English Horn", "Bassoon", "Clarinet",
    # 72: pipe
    "Piccolo", "Flute", "Recorder", "Pan Flute", "Blown Bottle", "Shakuhachi", "Whistle", "Ocarina",
    # 80: synth lead
    "Lead 1 (square)", "Lead 2 (sawtooth)", "Lead 3 (calliope)", "Lead 4 (chiff)", "Lead 5 (charang)",
    "Lead 6 (voice)", "Lead 7 (fifths)", "Lead 8 (bass + lead)",
    # 88: synth pad
    "Pad 1 (new age)", "Pad 2 (warm)", "Pad 3 (polysynth)", "Pad 4 (choir)", "Pad 5 (bowed)", "Pad 6 (metallic)",
    "Pad 7 (halo)", "Pad 8 (sweep)",
    # 96: synth effects
    "FX 1 (rain)", "FX 2 (soundtrack)", "FX 3 (crystal)", "FX 4 (atmosphere)", "FX 5 (brightness)", "FX 6 (goblins)",
    "FX 7 (echoes)", "FX 8 (sci-fi)",
    # 104: ethnic
    "Sitar", "Banjo", "Shamisen", "Koto", "Kalimba", "Bag pipe", "Fiddle", "Shanai",
    # 112: percussive
    "Tinkle Bell", "Agogo", "Steel Drums", "Woodblock", "Taiko Drum", "Melodic Tom", "Synth Drum", "Reverse Cymbal",
    # 120: sound effects
    "Guitar Fret Noise", "Breath Noise", "Seashore", "Bird Tweet", "Telephone Ring", "Helicopter", "Applause",
    "Gunshot",
)  # fmt: skip

# First and last program of each range. Piano as IRMAS hears it: any keyboard of the piano family.
_RANGES: tuple[tuple[int, int, str], ...] = (
    (0, 7, "piano"),
    (8, 14, "mallet_percussion"),  # not the dulcimer: its strings are struck
    (16, 20, "organ"),
    (21, 21, "accordion"),
    (23, 23, "accordion"),
    (24, 25, "acoustic_guitar"),
    (26, 31, "electric_guitar"),
    (32, 39, "bass"),
    (40, 40, "violin"),
    (42, 42, "cello"),
    (43, 43, "bass"),  # contrabass: OpenMIC's class holds the acoustic one too
    (50, 51, "synthesizer"),
    (52, 54, "voice"),
    (56, 56, "trumpet"),
    (57, 57, "trombone"),
    (59, 59, "trumpet"),  # muted
    (62, 63, "synthesizer"),
    (64, 67, "saxophone"),
    (71, 71, "clarinet"),
    (72, 73, "flute"),  # with the piccolo, a small flute
    (80, 103, "synthesizer"),
    (105, 105, "banjo"),
    (110, 110, "violin"),  # fiddle
    (114, 114, "mallet_percussion"),  # steel drums are tuned and struck with mallets
    (116, 118, "drums"),
    (119, 119, "cymbals"),
    (DRUMS, DRUMS, "drums"),
)

_INSTRUMENTS = {program: name for first, last, name in _RANGES for program in range(first, last + 1)}


def instrument_of(program: int) -> str | None:
    """Name the taxonomy's class of a program (0-based) or `DRUMS`; None where there is none.

    Raises:
        ValueError: no program has this number.
    """
    if not 0 <= program <= DRUMS:
        raise ValueError(f"program {program} is outside 0 to {DRUMS}; General MIDI has 128, counted from 0, and drums")
    return _INSTRUMENTS.get(program)


def instruments() -> tuple[str, ...]:
    """List all instruments that General MIDI reaches, sorted."""
    return tuple(sorted(set(_INSTRUMENTS.values())))
