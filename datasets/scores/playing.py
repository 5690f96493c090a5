"""Playing of General MIDI's instruments: register, one note or several at a time, ringing or sustained.

What the composer needs to write playable parts, and what a label needs to know of a long note: a guitar's is gone
after some seconds, an organ's is not.
"""

from dataclasses import dataclass

from tutti.datasets.record import DRUMS, Note, Seconds

# How long a note is sure to be heard after its onset where nothing keeps it alive: (lowest pitch of its register,
# highest), seconds. Measured on FluidR3 at velocity 90: by then a note is at most 42 dB below its loudest 0.1 s.
RINGING_S = (3.0, 0.5)
SHORT_S = (0.3, 0.1)  # mallets, pizzicato, drums
# How long a note may be heard after its end: release and room. By then the slowest pads are 31 dB down, voices 80.
RELEASE_S: Seconds = 2.0


@dataclass(frozen=True)
class Playing:
    """Register and sustain of one program."""

    lowest: int  # MIDI note numbers, a player's comfortable register
    highest: int
    is_polyphonic: bool
    sure_s: tuple[Seconds, Seconds] | None = None  # a note is heard so long, low to high; None: to its end


# First and last program, register, polyphonic, and what rings: "ring", "short" or "hold". Registers are those of
# orchestration textbooks, rounded to where the instrument is at home; a bass sounds as written here.
_TABLE: tuple[tuple[int, int, int, int, bool, str], ...] = (
    (0, 7, 36, 96, True, "ring"),  # keyboards
    (8, 10, 72, 103, True, "short"),  # celesta, glockenspiel, music box
    (11, 11, 53, 89, True, "ring"),  # vibraphone
    (12, 13, 60, 91, True, "short"),  # marimba, xylophone
    (14, 14, 60, 77, True, "ring"),  # tubular bells
    (15, 15, 55, 84, True, "short"),  # dulcimer
    (16, 16, 36, 91, True, "hold"),  # organs
    (17, 17, 36, 91, True, "ring"),  # percussive organ
    (18, 20, 36, 91, True, "hold"),
    (21, 21, 53, 89, True, "hold"),  # accordion
    (22, 22, 60, 88, False, "hold"),  # harmonica
    (23, 23, 53, 89, True, "hold"),
    (24, 27, 40, 81, True, "ring"),  # guitars
    (28, 28, 40, 81, True, "short"),  # muted
    (29, 30, 40, 81, True, "ring"),  # overdriven, distorted
    (31, 31, 52, 81, True, "ring"),  # harmonics
    (32, 37, 28, 55, False, "ring"),  # plucked basses
    (38, 39, 28, 55, False, "ring"),  # synthesizer basses
    (40, 40, 55, 93, False, "hold"),  # violin
    (41, 41, 48, 81, False, "hold"),  # viola
    (42, 42, 36, 72, False, "hold"),  # cello
    (43, 43, 28, 55, False, "hold"),  # contrabass
    (44, 44, 48, 86, True, "hold"),  # tremolo strings
    (45, 45, 48, 86, True, "short"),  # pizzicato
    (46, 46, 36, 91, True, "ring"),  # harp
    (47, 47, 40, 57, False, "short"),  # timpani
    (48, 51, 40, 86, True, "hold"),  # string ensembles
    (52, 54, 48, 79, True, "hold"),  # voices
    (55, 55, 48, 72, False, "short"),  # orchestra hit
    (56, 56, 54, 84, False, "hold"),  # trumpet
    (57, 57, 40, 70, False, "hold"),  # trombone
    (58, 58, 29, 58, False, "hold"),  # tuba
    (59, 59, 54, 81, False, "hold"),  # muted trumpet
    (60, 60, 41, 74, False, "hold"),  # horn
    (61, 63, 43, 79, True, "hold"),  # brass sections
    (64, 64, 56, 84, False, "hold"),  # saxophones
    (65, 65, 49, 80, False, "hold"),
    (66, 66, 44, 75, False, "hold"),
    (67, 67, 37, 68, False, "hold"),
    (68, 68, 58, 88, False, "hold"),  # oboe
    (69, 69, 52, 81, False, "hold"),  # English horn
    (70, 70, 34, 69, False, "hold"),  # bassoon
    (71, 71, 50, 87, False, "hold"),  # clarinet
    (72, 72, 74, 101, False, "hold"),  # piccolo
    (73, 73, 60, 93, False, "hold"),  # flute
    (74, 75, 60, 88, False, "hold"),  # recorder, pan flute
    (76, 79, 60, 84, False, "hold"),  # bottle, shakuhachi, whistle, ocarina
    (80, 87, 48, 84, False, "hold"),  # synthesizer leads
    (88, 95, 40, 79, True, "hold"),  # pads
    (96, 97, 48, 79, True, "ring"),  # effects
    (98, 98, 48, 79, True, "short"),
    (99, 103, 48, 79, True, "ring"),
    (104, 108, 48, 79, True, "short"),  # sitar to kalimba
    (109, 109, 57, 74, False, "hold"),  # bagpipe
    (110, 110, 55, 88, False, "hold"),  # fiddle
    (111, 111, 58, 84, False, "hold"),  # shanai
    (112, 119, 48, 79, False, "short"),
    (120, 127, 48, 72, False, "short"),
    (DRUMS, DRUMS, 35, 81, True, "short"),  # the keys of General MIDI's percussion map
)
_SURE = {"ring": RINGING_S, "short": SHORT_S, "hold": None}
_PLAYING = {
    program: Playing(lowest, highest, polyphonic, _SURE[kind])
    for first, last, lowest, highest, polyphonic, kind in _TABLE
    for program in range(first, last + 1)
}


def playing_of(program: int) -> Playing:
    """Return register and sustain of a program (0-based) or `DRUMS`."""
    return _PLAYING[program]


def sounding(note: Note) -> tuple[tuple[Seconds, Seconds], tuple[Seconds, Seconds]]:
    """Bound when a note surely sounds and when it may: (start, end) in s each, in the time of its score.

    Between the two lies what no score knows: how long a string rings, a room answers.
    """
    playing = playing_of(note.program)
    sure_s = note.offset_s - note.onset_s
    if playing.sure_s is not None:
        low_s, high_s = playing.sure_s
        height = (note.pitch - playing.lowest) / (playing.highest - playing.lowest)
        sure_s = min(sure_s, low_s * (high_s / low_s) ** min(1.0, max(0.0, height)))
    return (note.onset_s, note.onset_s + sure_s), (note.onset_s, note.offset_s + RELEASE_S)
