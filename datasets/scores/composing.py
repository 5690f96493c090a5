"""A composer: any number of short pieces from a seed, where there are no scores.

    score = compose(seed=0, index=17)

Tonal music in a major or minor key: a chord a bar by common progressions, a melody that repeats its rhythms and
leans on chord tones, accompaniment by what each instrument can play, bass, percussion. No art, but register,
polyphony, rhythm and mix of the instruments are those of music. Every class of General MIDI is drawn equally often.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tutti.datasets.manifest import digest_of
from tutti.datasets.record import DRUMS, Note, Seconds
from tutti.datasets.scores.general_midi import instrument_of
from tutti.datasets.scores.percussion import drum_bar
from tutti.datasets.scores.playing import playing_of
from tutti.datasets.scores.score import Score

CODE_VERSION = 1  # raise it when equal arguments give another score

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)  # semitones of the scale's degrees
# Which degree (0 = tonic) follows which, most likely first: functional harmony, dominants resolve.
NEXT_CHORD = {0: (3, 4, 5, 1), 1: (4, 3, 6), 2: (5, 3), 3: (4, 0, 1), 4: (0, 5, 0), 5: (3, 1, 4), 6: (0, 2)}
# Rhythms of one beat or two, in beats.
CELLS: tuple[tuple[float, ...], ...] = (
    (1,), (0.5, 0.5), (0.75, 0.25), (2,), (1.5, 0.5), (0.25, 0.25, 0.5), (0.25,) * 4, (1 / 3,) * 3,
)  # fmt: skip
OTHERS = "others"  # programs that no class stands for: also heard in music, labelled absent everywhere
SOUND_EFFECTS = range(120, 128)  # gunshots and telephones make no music

Timed = tuple[float, float, int, float]  # onset and length in beats, pitch, loudness 0 .. 1


@dataclass(frozen=True)
class ComposeConfig:
    """The frame of a piece."""

    min_s: Seconds = 20.0
    max_s: Seconds = 40.0
    max_parts: int = 5
    drums_share: float = 0.3  # of the pieces, besides those where drums are drawn as a class

    def __post_init__(self) -> None:
        """Refuse an empty frame."""
        if not 0 < self.min_s <= self.max_s or self.max_parts < 1:
            raise ValueError(f"{self}: expected 0 < min_s <= max_s and at least one part")


@dataclass(frozen=True)
class _Music:
    """Key, scale, chords and meter that all parts of a piece share."""

    tonic: int  # pitch class
    scale: tuple[int, ...]
    chords: tuple[int, ...]  # degree of each bar's chord
    beats: int  # of a bar
    swing: float  # share of a beat by which offbeat eighths come late


def compose(seed: int, index: int, config: ComposeConfig | None = None) -> Score:
    """Compose the piece of this number: a function of its arguments alone."""
    config = config or ComposeConfig()
    rng = _generator([seed, index, vars(config)])
    return _piece(ensemble(rng, config), config, rng)


def solo(seed: int, index: int, program: int, config: ComposeConfig | None = None) -> Score:
    """Compose a piece for one program alone, in the style of its part in larger ones."""
    config = config or ComposeConfig()
    return _piece([program], config, _generator([seed, index, vars(config), program]))


def _generator(arguments: list[object]) -> np.random.Generator:
    words = digest_of([CODE_VERSION, *arguments])
    return np.random.default_rng([int(words[at : at + 8], 16) for at in range(0, 64, 8)])


def _piece(programs: Sequence[int], config: ComposeConfig, rng: np.random.Generator) -> Score:
    """Compose a piece for these programs, the lead first."""
    beats_per_s = rng.uniform(66, 152) / 60
    beats = int(rng.choice([4, 4, 4, 3]))
    num_bars = max(1, round(rng.uniform(config.min_s, config.max_s) * beats_per_s / beats))
    swing = 0.17 if rng.random() < 0.15 else 0.0
    scale = MAJOR if rng.random() < 0.6 else MINOR
    music = _Music(int(rng.integers(12)), scale, _progression(num_bars, rng), beats, swing)
    notes: list[Note] = []
    for place, program in enumerate(programs):
        level = rng.uniform(62, 108) - 6 * min(place, 2)
        for onset, length, pitch, loudness in _part(program, is_lead=place == 0, music=music, rng=rng):
            # People play some 10 ms off the beat (standard deviation).
            late = music.swing if abs(onset % 1 - 0.5) < 1e-6 else 0.0
            start_s = max(0.0, (onset + late) / beats_per_s + rng.normal(0, 0.008))
            velocity = int(np.clip(level + 26 * (loudness - 0.7) + rng.normal(0, 4), 24, 127))
            onset_s, offset_s = round(start_s, 6), round(start_s + max(0.04, (length - late) / beats_per_s), 6)
            notes.append(Note(onset_s, offset_s, pitch, program, instrument_of(program), velocity))
    notes.sort(key=lambda n: (n.onset_s, n.pitch, n.program, n.offset_s, n.velocity))
    end_s = max([num_bars * beats / beats_per_s, *(note.offset_s for note in notes)])
    return Score(tuple(notes), round(end_s, 6))


def ensemble(rng: np.random.Generator, config: ComposeConfig) -> list[int]:
    """Draw different programs, the lead first: classes alike, then programs of the class alike."""
    choices = _programs_by_class()
    wanted = int(rng.integers(1, config.max_parts + 1))
    names = [str(name) for name in rng.permutation(sorted(choices))[:wanted]]
    programs = [int(rng.choice(choices[name])) for name in names]
    if DRUMS not in programs and len(programs) > 1 and rng.random() < config.drums_share:
        programs.append(DRUMS)
    # A bass or a drum leads only where nothing else is there.
    return sorted(programs, key=lambda program: (program == DRUMS, instrument_of(program) == "bass"))


@functools.cache
def _programs_by_class() -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for program in range(DRUMS + 1):
        if program not in SOUND_EFFECTS and not 112 <= program <= 119:  # single drums: the kit has them
            found.setdefault(instrument_of(program) or OTHERS, []).append(program)
    return {name: tuple(programs) for name, programs in found.items()}


def _progression(num_bars: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw phrases of four bars; the second repeats half of the first, and the last chord is the tonic."""
    chords = [0]
    while len(chords) < num_bars:
        follows = NEXT_CHORD[chords[-1]]
        weights = np.array([1 / (rank + 1) for rank in range(len(follows))])
        phrase = len(chords) % 8
        again = chords[len(chords) - 4] if phrase in (4, 5) else int(rng.choice(follows, p=weights / weights.sum()))
        chords.append(again)
    return (*chords[:-1], 0)


def _part(program: int, *, is_lead: bool, music: _Music, rng: np.random.Generator) -> Iterator[Timed]:
    """Compose the notes of one part, in the manner of its instrument."""
    playing, instrument = playing_of(program), instrument_of(program)
    if program == DRUMS:
        yield from _drums(music, rng)
    elif instrument == "bass" or playing.highest <= 58:
        yield from _bass(program, music, rng)
    elif is_lead:
        yield from _melody(program, music, rng)
        if playing.is_polyphonic and rng.random() < 0.7:  # the left hand
            yield from _chords(program, music, rng, below=(playing.lowest + playing.highest) // 2)
    elif playing.is_polyphonic:
        yield from _chords(program, music, rng)
    else:
        yield from _melody(program, music, rng) if rng.random() < 0.5 else _held(program, music, rng)


def _pitch(music: _Music, degree: int, near: int, lowest: int, highest: int) -> int:
    """Find the pitch of a scale degree (0 = tonic) that is nearest to another, within an octave or more."""
    pitch_class = (music.tonic + music.scale[degree % 7]) % 12
    candidates = [pitch for pitch in range(lowest, highest + 1) if pitch % 12 == pitch_class]
    return min(candidates, key=lambda pitch: (abs(pitch - near), pitch))


def _melody(program: int, music: _Music, rng: np.random.Generator) -> Iterator[Timed]:
    playing = playing_of(program)
    middle = rng.uniform(0.35, 0.75)
    near = round(playing.lowest + middle * (playing.highest - playing.lowest))
    rhythms = [_rhythm(music.beats, rng) for _ in range(2)]
    rests, legato = rng.uniform(0, 0.25), rng.uniform(0.5, 1.0)
    degree = 0
    for bar, chord in enumerate(music.chords):
        beat = 0.0
        for length in rhythms[(bar // 2) % 2 if bar % 4 == 3 else 0]:
            if beat % 1 == 0 and rng.random() < 0.6:  # on the beat a chord tone, the nearest of three
                degree = min((chord + third for third in (0, 2, 4)), key=lambda tone: abs(_around(tone - degree)))
                degree %= 7
            else:
                degree = (degree + int(rng.choice([-2, -1, -1, 1, 1, 2]))) % 7
            pitch = _pitch(music, degree, near, playing.lowest, playing.highest)
            near = round(0.8 * pitch + 0.2 * (playing.lowest + middle * (playing.highest - playing.lowest)))
            if rng.random() >= rests:
                yield bar * music.beats + beat, length * legato, pitch, 0.9 if beat == 0 else 0.7
            beat += length


def _around(steps: int) -> int:
    """Reduce an interval of scale degrees by octaves to -3 .. 3."""
    return (steps + 3) % 7 - 3


def _rhythm(beats: int, rng: np.random.Generator) -> list[float]:
    lengths: list[float] = []
    while (left := beats - sum(lengths)) > 1e-6:
        fitting = [cell for cell in CELLS if sum(cell) <= left + 1e-6]
        lengths += fitting[int(rng.integers(len(fitting)))]
    return lengths


def _chords(program: int, music: _Music, rng: np.random.Generator, below: int | None = None) -> Iterator[Timed]:
    playing = playing_of(program)
    highest = playing.highest if below is None else max(below, playing.lowest + 12)
    style = str(rng.choice(["block", "beats", "offbeats", "broken"]))
    near = int(rng.integers(playing.lowest + 4, max(playing.lowest + 5, highest - 8)))
    strum = rng.uniform(0.0, 0.06)  # beats from string to string
    for bar, chord in enumerate(music.chords):
        tones = sorted({_pitch(music, chord + third, near + 4 * third, playing.lowest, highest) for third in (0, 2, 4)})
        start = bar * music.beats
        if style == "broken":
            order = tones + tones[1:-1]
            for eighth in range(2 * music.beats):
                yield start + eighth / 2, 0.5, order[eighth % len(order)], 0.7
            continue
        step, length = {"block": (music.beats, music.beats), "beats": (1, 0.9), "offbeats": (1, 0.4)}[style]
        for beat in range(0, music.beats, step):
            late = 0.5 if style == "offbeats" else 0.0
            for string, pitch in enumerate(tones):
                yield start + beat + late + string * strum, length - late * 0.1, pitch, 0.8 if beat == 0 else 0.6


def _held(program: int, music: _Music, rng: np.random.Generator) -> Iterator[Timed]:
    """Compose one long note a bar: a second voice."""
    playing = playing_of(program)
    near = int(rng.integers(playing.lowest, playing.highest + 1))
    for bar, chord in enumerate(music.chords):
        near = _pitch(music, chord + int(rng.choice([0, 2, 4])), near, playing.lowest, playing.highest)
        yield bar * music.beats, music.beats * 0.95, near, 0.6


def _bass(program: int, music: _Music, rng: np.random.Generator) -> Iterator[Timed]:
    playing = playing_of(program)
    low, high = playing.lowest, max(playing.lowest + 17, min(playing.highest, 52))
    style = str(rng.choice(["root", "root and fifth", "walking", "eighths"]))
    near = int(rng.integers(low, low + 10))
    steps = {"root": [0], "root and fifth": [0, 4], "walking": [0, 2, 4, 5][: music.beats], "eighths": [0] * 8}[style]
    for bar, chord in enumerate(music.chords):
        length = music.beats / len(steps)
        for number, step in enumerate(steps):
            near = _pitch(music, chord + step, near, low, high)
            yield bar * music.beats + number * length, length * 0.9, near, 0.9 if number == 0 else 0.7


def _drums(music: _Music, rng: np.random.Generator) -> Iterator[Timed]:
    style = int(rng.integers(4))
    for bar in range(len(music.chords)):
        for beat, key, loudness in drum_bar(style, music.beats, is_first=bar % 8 == 0, is_last=bar % 8 == 7):
            if loudness > 0.6 or rng.random() < 0.9:
                yield bar * music.beats + beat, 0.25, key, loudness
