"""Variations of a score: the same music by other instruments of the same classes, in another key, tempo and room.

    performance = vary(score, seed=0, variant=1)      variant 0 is the score as it stands

A pure function of (score, seed, variant, config). The notes that come out are the labels: what a rendering of
the performance sounds is what they say. Future work of two papers: MIDI-rendered pre-training data (Zhong 2023),
other sounds and random velocities (Hung 2019).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from tutti.datasets.manifest import digest_of
from tutti.datasets.record import DRUMS, Decibels, Note
from tutti.datasets.scores.general_midi import instrument_of
from tutti.datasets.scores.score import Score

CODE_VERSION = 1  # raise it when equal arguments give another performance

LOWEST, HIGHEST = 21, 108  # the piano's keys: no note is moved out of them
MIN_VELOCITY = 24  # below, a note is 29 dB under full velocity and drowns in any mix; softer ones are left as they are
DRUM_KITS = (0, 8, 16, 25, 32, 40)  # GM2 and GS: standard, room, power, analog, jazz, brush


@dataclass(frozen=True)
class Room:
    """FluidSynth's reverberation; `level` 0 is none."""

    size: float = 0.2  # 0 .. 1; FluidSynth's defaults, all four
    damping: float = 0.0  # 0 .. 1: how soon the high frequencies die
    width: float = 0.5  # 0 .. 100: stereo spread
    level: float = 0.9  # 0 .. 1


@dataclass(frozen=True)
class VariationConfig:
    """Limits of a variation."""

    max_transposition: int = 5  # semitones up or down: a fourth, then the registers would no longer fit
    max_tempo_ratio: float = 1.2  # and 1 / 1.2: still the same piece
    max_gain_db: Decibels = 6.0  # of a part, up or down
    max_velocity_shift: int = 20  # of a part
    max_velocity_jitter: int = 10  # of a note
    swap_programs: bool = True  # within the instrument class

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.max_tempo_ratio < 1 or min(self.max_transposition, self.max_gain_db) < 0:
            raise ValueError(f"{self}: expected a ratio of at least 1 and limits of at least 0")
        if min(self.max_velocity_shift, self.max_velocity_jitter) < 0:
            raise ValueError(f"{self}: expected limits of at least 0")


@dataclass(frozen=True)
class Performance:
    """A score with all that its rendering depends on, apart from the soundfont."""

    score: Score
    gains_db: Mapping[int, Decibels] = field(default_factory=dict)  # program -> gain; left out: 0
    drum_kit: int = 0  # program of the percussion channel
    room: Room = Room()

    def digest(self) -> str:
        """Hash the score, gains, drum kit and room (sha256)."""
        return digest_of([score_digest(self.score), sorted(self.gains_db.items()), self.drum_kit, asdict(self.room)])


def score_digest(score: Score) -> str:
    """Hash the notes and the end of a score (sha256); `instrument` follows from the program."""
    rows = [[n.onset_s, n.offset_s, n.pitch, n.program, n.velocity] for n in score.notes]
    return digest_of([rows, score.end_s])


def vary(
    score: Score, *, seed: int, variant: int, config: VariationConfig | None = None, key: str | None = None
) -> Performance:
    """Make the variant of a score; 0 is the score itself.

    Args:
        score: any.
        seed: of all draws.
        variant: its number.
        config: limits; None: the defaults.
        key: what the draws depend on besides seed and variant; None: the score's digest.
    """
    if variant == 0:
        return Performance(score)
    config = config or VariationConfig()
    words = digest_of([CODE_VERSION, key or score_digest(score), seed, variant])
    rng = np.random.default_rng([int(words[at : at + 8], 16) for at in range(0, 64, 8)])
    programs = sorted({note.program for note in score.notes})
    swapped = _swaps(programs, rng) if config.swap_programs else {program: program for program in programs}
    steps = _transposition(score.notes, config.max_transposition, rng)
    ratio = float(np.exp(rng.uniform(-1, 1) * np.log(config.max_tempo_ratio)))
    shifts = {program: round(rng.uniform(-1, 1) * config.max_velocity_shift) for program in programs}
    jitter_N = rng.integers(-config.max_velocity_jitter, config.max_velocity_jitter + 1, len(score.notes))
    gains = {swapped[p]: round(float(rng.uniform(-1, 1) * config.max_gain_db), 2) for p in programs}
    notes = [
        _varied(note, swapped[note.program], steps, ratio, shifts[note.program] + int(jitter))
        for note, jitter in zip(score.notes, jitter_N, strict=True)
    ]
    notes.sort(key=lambda n: (n.onset_s, n.pitch, n.program, n.offset_s, n.velocity))
    # Never before the last note: rounding the end and an offset apart could say so.
    end_s = max([round(score.end_s * ratio, 6), *(note.offset_s for note in notes)])
    return Performance(Score(tuple(notes), end_s), gains, int(rng.choice(DRUM_KITS)), _room(rng))


def alternatives(program: int) -> tuple[int, ...]:
    """List the programs of the same class that play alike, the program itself among them.

    A bowed contrabass and a plucked bass are one class, and so are some sound effects and synthesizers, but they
    do not play each other's parts: a swap stays within the eight programs that General MIDI groups, unless the
    class lies in several groups with one program each (a fiddle for a violin, a muted trumpet).
    """
    instrument = instrument_of(program)
    if instrument is None or program == DRUMS:
        return (program,)
    if instrument in ("violin", "trumpet"):
        return tuple(other for other in range(DRUMS) if instrument_of(other) == instrument)
    group = program // 8 * 8
    return tuple(other for other in range(group, group + 8) if instrument_of(other) == instrument)


def _swaps(programs: Sequence[int], rng: np.random.Generator) -> dict[int, int]:
    """Draw a program for each program, no two alike: two parts stay two parts."""
    swapped: dict[int, int] = {}
    for program in programs:
        # Left alone is every program that is still to be placed, so that each finds at least itself.
        later = {other for other in programs if other > program}
        free = [other for other in alternatives(program) if other not in swapped.values() and other not in later]
        swapped[program] = int(rng.choice(free))
    return swapped


def _transposition(notes: Sequence[Note], limit: int, rng: np.random.Generator) -> int:
    """Draw semitones that keep every pitched note among the piano's keys (notes already outside do not count)."""
    pitches = [note.pitch for note in notes if note.program != DRUMS and LOWEST <= note.pitch <= HIGHEST]
    down, up = (min(pitches) - LOWEST, HIGHEST - max(pitches)) if pitches else (0, 0)
    return int(rng.integers(-min(limit, down), min(limit, up) + 1))


def _varied(note: Note, program: int, steps: int, ratio: float, shift: int) -> Note:
    is_pitched = note.program != DRUMS and LOWEST <= note.pitch <= HIGHEST
    onset_s = round(note.onset_s * ratio, 6)
    return replace(
        note,
        onset_s=onset_s,
        offset_s=max(round(note.offset_s * ratio, 6), round(onset_s + 1e-6, 6)),
        pitch=note.pitch + steps if is_pitched else note.pitch,
        program=program,
        velocity=min(127, max(note.velocity + shift, min(note.velocity, MIN_VELOCITY))),
    )


def _room(rng: np.random.Generator) -> Room:
    """Draw a room, from dry to a hall; FluidSynth's tail is 0.7 s at size 0, 12 s at 1: the largest are left out."""
    size, damping, width, level = rng.uniform([0, 0, 0, 0], [0.7, 1, 1, 0.9])
    return Room(*(round(float(value), 4) for value in (size, damping, width, level)))
