"""The sample's IRMAS: one training zip and three test zips, with upstream's names and traps.

Training: `IRMAS-TrainingData/<code>/[NNN__][<code>]([dru|nod])[<genre>]<song>__<part>.wav`; the
number in front stands if and only if a drum tag does; `[cla]` is clarinet in the first bracket and
classical in the last; song numbers are not unique. Test: a wav and a txt per excerpt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tutti.datasets.sample.dsp import SAMPLE_RATE, rng_for
from tutti.datasets.sample.encode import Member, wav_bytes
from tutti.datasets.sample.instruments import DRUMS
from tutti.datasets.sample.music import Song
from tutti.datasets.sample.room import Pcm

CODES = {
    "cello": "cel",
    "clarinet": "cla",
    "flute": "flu",
    "acoustic_guitar": "gac",
    "electric_guitar": "gel",
    "organ": "org",
    "piano": "pia",
    "saxophone": "sax",
    "trumpet": "tru",
    "violin": "vio",
    "voice": "voi",
}
TRAIN_FOLDER = "IRMAS-TrainingData"
TEST_FOLDERS = (  # upstream's own inconsistency in the second
    "IRMAS-TestingData-Part1/Part1",
    "IRMAS-TestingData-Part2/IRTestingData-Part2",
    "IRMAS-TestingData-Part3/Part3",
)
TRAIN_FRAMES = 132_299  # upstream's three seconds lack one frame
_GENRES = ("pop_roc", "cla", "jaz_blu", "cou_fol", "pop_roc", "lat_sou")
_MIXED_SETS = ((1, 0.4), (2, 0.4), (3, 0.2))  # number of labels and its share among test songs

# Names that break naive parsers: dots, brackets, hyphens and digits at the end, #&', and non-ASCII.
_TITLES = (
    "01 Grey Harbour",
    "Canção do vento",
    "[Live at the Mill] Low Tide",
    "02. Mr. Pell's Waltz No. 4",
    "Rock #9 & Roll",
    "Été à Lyon",
    "Don't Wait, Marie",
    "07-Étude op.10-3",
    "A_Long_Way_Down_(take 2)",
    "Für Annelie",
    "The Quiet.wav Song",
    "Señor Buenanoche [remix]",
    "12 - The Lamplighters - Ash & Ember",
    "Smørbrød Blues",
    "03 northern line",
    "Größer als gestern",
    "Paper Boats, Pt. 1",
    "Übermorgen",
    "Eleven 11",
    "São Miguel às três",
    "(Untitled) #4",
    "Nóż i widelec",
    "Half Past Nine...",
    "Élan vital - live",
)


@dataclass(frozen=True)
class Excerpt:
    """One wav of a song: its members in the archive and who plays, predominant first."""

    path: str
    num_frames: int
    gains_db: tuple[tuple[str, float], ...]
    annotation: str | None = None  # content of the txt beside it


@dataclass(frozen=True)
class SongJob:
    """Everything that a worker needs to write the excerpts of one song."""

    seed: int
    name: str
    players: tuple[str, ...]
    excerpts: tuple[Excerpt, ...]


@dataclass(frozen=True)
class TrainPlan:
    """The training zip: the songs, and what was planted."""

    songs: tuple[SongJob, ...]
    mislabelled: dict[str, dict[str, str]]
    background: dict[str, list[str]]
    duplicate: tuple[str, str]  # the same bytes under two labels
    silent: str
    short: str
    undecodable: str


def render_song(job: SongJob) -> list[Member]:
    """Render the members of one song, in order."""
    song = Song(job.seed, job.name, job.players)
    members: list[Member] = []
    for excerpt in job.excerpts:
        pcm = song.excerpt(excerpt.path, excerpt.num_frames, dict(excerpt.gains_db))
        members.append((excerpt.path, wav_bytes(pcm)))
        if excerpt.annotation is not None:
            members.append((excerpt.path.removesuffix(".wav") + ".txt", excerpt.annotation.encode()))
    return members


def plan_train(seed: int, songs_per_class: int, parts: int) -> TrainPlan:
    """Plan the training set: every song has one label, a genre, perhaps drums and a quiet second voice."""
    rng = rng_for(seed, "irmas", "train")
    others = [name for name in CODES if not name.endswith("guitar")]
    wrong_class, true_class = (str(name) for name in rng.choice(others, size=2, replace=False))
    wrong_song = int(rng.integers(songs_per_class))
    songs: list[SongJob] = []
    mislabelled: dict[str, dict[str, str]] = {}
    background: dict[str, list[str]] = {}
    for class_index, (instrument, code) in enumerate(CODES.items()):
        tagged = 0
        for index in range(songs_per_class):
            number = class_index * (songs_per_class - 1) + index + 1  # the last of a class = the first of the next
            rng = rng_for(seed, "irmas", code, index)
            wrong = (instrument, index) == (wrong_class, wrong_song)
            lead = true_class if wrong else instrument
            side = [] if wrong else _background(rng, instrument)
            drums = any(player == DRUMS for player, _ in side)
            tag = "dru" if drums else "nod" if rng.random() < 0.15 else None
            tagged += tag is not None
            genre = _GENRES[(index + class_index) % len(_GENRES)]
            stem = f"[{code}]" + (f"[{tag}]" if tag else "") + f"[{genre}]{number:04}"
            if tag:
                stem = f"{tagged % 1000:03}__{stem}"
            paths = [f"{TRAIN_FOLDER}/{code}/{stem}__{part}.wav" for part in range(1, parts + 1)]
            gains = ((lead, 0.0), *side)
            excerpts = tuple(Excerpt(path, TRAIN_FRAMES, gains) for path in paths)
            songs.append(SongJob(seed, f"irmas/{code}/{index}", tuple(name for name, _ in gains), excerpts))
            for path in paths:
                if wrong:
                    mislabelled[path] = {"labelled": code, "really": CODES[lead]}
                if heard := [CODES[player] for player, _ in side if player in CODES]:
                    background[path] = heard
    original = next(song for song in songs if "acoustic_guitar" in song.players[:1]).excerpts[0].path
    return TrainPlan(
        songs=tuple(songs),
        mislabelled=mislabelled,
        background=background,
        duplicate=(original, f"{TRAIN_FOLDER}/gel/[gel][pop_roc]9757__1.wav"),
        silent=f"{TRAIN_FOLDER}/flu/[flu][cla]9990__1.wav",
        short=f"{TRAIN_FOLDER}/cla/[cla][cla]9991__1.wav",
        undecodable=f"{TRAIN_FOLDER}/voi/[voi][pop_roc]9992__1.wav",
    )


def _background(rng: np.random.Generator, lead: str) -> list[tuple[str, float]]:
    """Draw players behind the predominant one, with their levels against it in dB."""
    side: list[tuple[str, float]] = []
    if rng.random() < 0.2:
        side.append((DRUMS, float(rng.uniform(-24, -14))))
    if rng.random() < 0.2:
        side.append(("bass", float(rng.uniform(-22, -14))))
    if rng.random() < 0.15:
        side.append((str(rng.choice([name for name in CODES if name != lead])), float(rng.uniform(-22, -14))))
    return side


def train_members(plan: TrainPlan, rendered: Iterator[list[Member]], seed: int) -> Iterator[Member]:
    """Yield the training zip, member by member; `rendered` holds the songs of the plan in order."""
    yield f"{TRAIN_FOLDER}/README.txt", b"Synthesized miniature of the IRMAS training data; see TRUTH.json.\n"
    copied = b""
    for members in rendered:
        copied = next((content for path, content in members if path == plan.duplicate[0]), copied)
        yield from members
    yield plan.duplicate[1], copied
    yield plan.silent, wav_bytes(near_silence(rng_for(seed, "irmas", "silent"), TRAIN_FRAMES))
    short = Song(seed, "irmas/short", ("clarinet",)).excerpt("", round(0.7 * SAMPLE_RATE), {"clarinet": 0.0})
    yield plan.short, wav_bytes(short)
    rng = rng_for(seed, "irmas", "cut")
    promised = near_silence(rng, int(rng.integers(40_000, 100_000)))
    yield plan.undecodable, wav_bytes(promised)[:30]  # ends inside the format chunk


def near_silence(rng: np.random.Generator, num_frames: int) -> Pcm:
    """Draw converter noise: at most three steps of 16 bit, far below the 0.001 that counts as silent."""
    return rng.integers(-3, 4, size=(num_frames, 2)).astype(np.int16)


def plan_test(seed: int, num_songs: int, num_excerpts: int) -> tuple[tuple[SongJob, ...], ...]:
    """Plan songs of the three test parts: one to three instruments, all sounding throughout."""
    parts: tuple[list[SongJob], ...] = ([], [], [])
    for index in range(num_songs):
        title = _TITLES[index % len(_TITLES)]
        if index >= len(_TITLES):
            title += f" ({index // len(_TITLES) + 1})"
        part = index % len(parts)
        parts[part].append(_test_song(seed, f"{TEST_FOLDERS[part]}/{title}", index, num_excerpts))
    return tuple(tuple(songs) for songs in parts)


def _test_song(seed: int, stem: str, index: int, num_excerpts: int) -> SongJob:
    rng = rng_for(seed, "irmas", stem)
    sizes, shares = zip(*_MIXED_SETS, strict=True)
    size = int(rng.choice(sizes, p=shares))
    first = list(CODES)[index % len(CODES)]
    rest = [name for name in CODES if name != first]
    labelled = [first, *(str(name) for name in rng.choice(rest, size=size - 1, replace=False))]
    unlabelled = [DRUMS, "bass"] if rng.random() < 0.25 else []  # IRMAS annotates neither
    leaves = int(rng.integers(num_excerpts)) if size > 1 and rng.random() < 0.3 else None
    numbers = sorted(int(number) for number in rng.choice(4 * num_excerpts, size=num_excerpts, replace=False) + 1)
    excerpts = []
    for position, number in enumerate(numbers):
        playing = labelled[:-1] if position == leaves else labelled
        gains = [(name, float(rng.uniform(-4, 0))) for name in playing]
        gains += [(name, float(rng.uniform(-14, -8))) for name in unlabelled]
        excerpts.append(
            Excerpt(
                path=f"{stem}-{number}.wav",
                num_frames=int(rng.integers(5 * SAMPLE_RATE, 8 * SAMPLE_RATE)),
                gains_db=tuple(gains),
                annotation=annotation(playing),
            )
        )
    return SongJob(seed, f"irmas/{stem}", (*labelled, *unlabelled), tuple(excerpts))


def annotation(instruments: Sequence[str]) -> str:
    """Format upstream's txt: one code per line, each followed by a tab."""
    return "".join(f"{code}\t\n" for code in sorted(CODES[name] for name in instruments))
