"""The sample's AudioSet: segment lists, class tables, and the audio of whole videos.

A row names a video, a segment and the labels' MIDs; the labelled instrument plays inside the
segment and another one before and after it. Rows of other sounds, of two instruments and of
broader classes have no video here: a single-instrument selection must not ask for them.
"""

import json
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tutti.datasets.sample.dsp import SAMPLE_RATE, rng_for
from tutti.datasets.sample.encode import Member, video_bytes
from tutti.datasets.sample.irmas import CODES, near_silence
from tutti.datasets.sample.music import Song
from tutti.datasets.sample.room import Pcm

CSV_FOLDER = "storage.googleapis.com/us_audioset/youtube_corpus/v1/csv"
VIDEO_FOLDER = "www.youtube.com/watch"
ONTOLOGY = "raw.githubusercontent.com/audioset/ontology/master/ontology.json"
PARTITIONS = {
    "balanced_train": "balanced_train_segments",
    "eval": "eval_segments",
    "unbalanced_train": "unbalanced_train_segments",
}

MIDS = {
    "cello": "/m/01xqw",
    "clarinet": "/m/01wy6",
    "flute": "/m/0l14j_",
    "acoustic_guitar": "/m/042v_gx",
    "electric_guitar": "/m/02sgy",
    "organ": "/m/013y1f",
    "piano": "/m/05r5c",
    "saxophone": "/m/06ncr",
    "trumpet": "/m/07gql",
    "violin": "/m/07y_7",
    "voice": "/m/015lz1",
}
_MUSIC = "/m/04rlf"
# MID, index in upstream's table of 527 classes (None: not among them), name, parents.
_CLASSES: tuple[tuple[str, int | None, str, tuple[str, ...]], ...] = (
    ("/m/0dgw9r", None, "Human sounds", ()),
    ("/m/09l8g", None, "Human voice", ("/m/0dgw9r",)),
    ("/m/09x0r", 0, "Speech", ("/m/09l8g",)),
    ("/m/05zppz", 1, "Male speech, man speaking", ("/m/09x0r",)),
    ("/m/02zsn", 2, "Female speech, woman speaking", ("/m/09x0r",)),
    ("/m/015lz1", 27, "Singing", ("/m/09l8g",)),
    ("/m/0l14jd", 28, "Choir", ("/m/015lz1", "/m/04szw")),
    ("/t/dd00003", 32, "Male singing", ("/m/015lz1",)),
    ("/t/dd00004", 33, "Female singing", ("/m/015lz1",)),
    ("/t/dd00005", 34, "Child singing", ("/m/015lz1",)),
    ("/m/06bxc", 36, "Rapping", ("/m/015lz1",)),
    ("/m/0jbk", 72, "Animal", ()),
    ("/m/068hy", 73, "Domestic animals, pets", ("/m/0jbk",)),
    ("/m/0bt9lr", 74, "Dog", ("/m/068hy",)),
    ("/m/05tny_", 75, "Bark", ("/m/0bt9lr",)),
    ("/m/04rlf", 137, "Music", ()),
    ("/m/04szw", 138, "Musical instrument", ("/m/04rlf",)),
    ("/m/0fx80y", 139, "Plucked string instrument", ("/m/04szw",)),
    ("/m/0342h", 140, "Guitar", ("/m/0fx80y",)),
    ("/m/02sgy", 141, "Electric guitar", ("/m/0342h",)),
    ("/m/018vs", 142, "Bass guitar", ("/m/0342h",)),
    ("/m/042v_gx", 143, "Acoustic guitar", ("/m/0342h",)),
    ("/m/06w87", 144, "Steel guitar, slide guitar", ("/m/0342h",)),
    ("/m/05148p4", 152, "Keyboard (musical)", ("/m/04szw",)),
    ("/m/05r5c", 153, "Piano", ("/m/05148p4",)),
    ("/m/01s0ps", 154, "Electric piano", ("/m/05r5c",)),
    ("/m/013y1f", 155, "Organ", ("/m/05148p4",)),
    ("/m/03xq_f", 156, "Electronic organ", ("/m/013y1f",)),
    ("/m/03gvt", 157, "Hammond organ", ("/m/013y1f",)),
    ("/m/0l14qv", 158, "Synthesizer", ("/m/05148p4",)),
    ("/m/0l14md", 161, "Percussion", ("/m/04szw",)),
    ("/m/02hnl", 162, "Drum kit", ("/m/0l14md",)),
    ("/m/01kcd", 185, "Brass instrument", ("/m/04szw",)),
    ("/m/07gql", 187, "Trumpet", ("/m/01kcd",)),
    ("/m/07c6l", 188, "Trombone", ("/m/01kcd",)),
    ("/m/0l14_3", 189, "Bowed string instrument", ("/m/04szw",)),
    ("/m/07y_7", 191, "Violin, fiddle", ("/m/0l14_3",)),
    ("/m/0d8_n", 192, "Pizzicato", ("/m/07y_7",)),
    ("/m/01xqw", 193, "Cello", ("/m/0l14_3",)),
    ("/m/02fsn", 194, "Double bass", ("/m/0l14_3",)),
    ("/m/085jw", 195, "Wind instrument, woodwind instrument", ("/m/04szw",)),
    ("/m/0l14j_", 196, "Flute", ("/m/085jw",)),
    ("/m/06ncr", 197, "Saxophone", ("/m/085jw",)),
    ("/m/01wy6", 198, "Clarinet", ("/m/085jw",)),
    ("/m/07yv9", 300, "Vehicle", ()),
    ("/m/0k4j", 307, "Car", ("/m/07yv9",)),
)
# Rows that no selection of one core class may take; two core classes are drawn besides.
_FOREIGN = (
    ("/m/09x0r",),
    ("/m/05zppz", "/m/09x0r"),
    ("/m/05tny_", "/m/068hy", "/m/0bt9lr", "/m/0jbk"),
    ("/m/07yv9", "/m/0k4j"),
    ("/m/0342h", "/m/04rlf", "/m/04szw", "/m/0fx80y"),
    ("/m/03gvt", "/m/04rlf", "/m/05148p4"),
    ("/m/04rlf", "/t/dd00003"),
    ("/m/02hnl", "/m/04rlf", "/m/0l14md"),
    ("/m/01s0ps", "/m/05148p4"),
    ("/m/04rlf", "/m/0l14qv"),
    ("/m/04rlf",),
)
_STARTS_S = (0.0, 3.0, 5.0, 7.5, 10.0, 3.0, 1.0, 20.5, 5.0, 2.0)
_SHORT_SEGMENTS_S = (4.0, 5.0, 7.0, 9.0)


@dataclass(frozen=True)
class Row:
    """A line of a segment list; `video` is None where nothing is to be had."""

    youtube_id: str
    partition: str
    start_s: float
    end_s: float
    mids: tuple[str, ...]

    @property
    def line(self) -> str:
        """The row in upstream's form: comma and space between fields, the MIDs in quotes."""
        return f'{self.youtube_id}, {self.start_s:.3f}, {self.end_s:.3f}, "{",".join(self.mids)}"'


@dataclass(frozen=True)
class Video:
    """A video whose audio the sample holds."""

    seed: int
    name: str  # seeds the audio; two videos of one name are the same audio
    row: Row
    labelled: str
    really: str
    around: str  # what plays before and after the segment
    length_s: float
    extension: str
    silent: bool = False
    truncated: bool = False

    @property
    def path(self) -> str:
        """The path below the mirror's root."""
        return f"{VIDEO_FOLDER}/{self.row.youtube_id}.{self.extension}"


@dataclass(frozen=True)
class AudioSetPlan:
    """All rows, the videos, and what was planted."""

    videos: tuple[Video, ...]
    rows: tuple[Row, ...]
    gone: tuple[str, ...]
    duplicate: tuple[str, str]
    silent: str
    undecodable: str
    mislabelled: dict[str, dict[str, str]]


class _Ids:
    """Video ids: eleven characters, some with a sign in front, none equal to another but for case."""

    def __init__(self, seed: int) -> None:
        self._rng, self._seen = rng_for(seed, "audioset", "ids"), set[str]()

    def __call__(self) -> str:
        letters = string.ascii_letters + string.digits + "-_"
        while True:
            picked = [letters[int(i)] for i in self._rng.integers(len(letters), size=11)]
            first = {0: "-", 1: "_"}.get(len(self._seen) % 9)
            new = (first or picked[0].replace("-", "q").replace("_", "Q")) + "".join(picked[1:])
            if new.casefold() not in self._seen:
                self._seen.add(new.casefold())
                return new


def plan(seed: int, videos_per_class: int, num_foreign: int) -> AudioSetPlan:
    """Plan rows and videos of all three partitions."""
    ids = _Ids(seed)
    partitions = list(PARTITIONS)
    names = list(MIDS)
    videos = [
        _video(seed, ids(), partitions[(turn + index) % 3], names[index], f"{names[index]} {turn}")
        for turn in range(videos_per_class)
        for index in range(len(names))
    ]
    rng = rng_for(seed, "audioset", "planted")
    picks = [str(name) for name in rng.permutation(names)]
    wrong = [
        replace(_video(seed, ids(), partition, labelled, f"mislabelled {labelled}"), really=really)
        for partition, labelled, really in zip(partitions[:2], picks[0:2], picks[2:4], strict=True)
    ]
    # Of two equal tracks the lower id stays: both in the partition where a repeat is the likeliest.
    first = replace(_video(seed, ids(), "unbalanced_train", picks[4], "duplicate"))
    again = replace(first, row=replace(first.row, youtube_id=ids()))
    silent = replace(_video(seed, ids(), "unbalanced_train", picks[5], "silent"), silent=True)
    cut = replace(_video(seed, ids(), "balanced_train", picks[6], "cut"), extension="m4a", truncated=True)
    videos += [*wrong, first, again, silent, cut]
    gone = [
        Row(ids(), partitions[index % 3], 30.0, 40.0, (MIDS[name], _MUSIC)[: 1 + index % 2])
        for index, name in enumerate(picks[7:11])
    ]
    foreign = [_foreign(rng, ids(), partitions[index % 3], index) for index in range(num_foreign)]
    return AudioSetPlan(
        videos=tuple(videos),
        rows=(*(video.row for video in videos), *gone, *foreign),
        gone=tuple(row.youtube_id for row in gone),
        duplicate=(first.row.youtube_id, again.row.youtube_id),
        silent=silent.row.youtube_id,
        undecodable=cut.row.youtube_id,
        mislabelled={
            video.row.youtube_id: {"labelled": CODES[video.labelled], "really": CODES[video.really]} for video in wrong
        },
    )


def _video(seed: int, youtube_id: str, partition: str, instrument: str, name: str) -> Video:
    rng = rng_for(seed, "audioset", name)
    start_s = float(rng.choice(_STARTS_S))
    length_s = float(rng.choice(_SHORT_SEGMENTS_S)) if rng.random() < 0.2 else 10.0
    # Upstream's rows list some of the broader classes, not all.
    broader = [mid for mid in _broader(MIDS[instrument]) if rng.random() < (0.85 if mid == _MUSIC else 0.35)]
    mids = tuple(str(mid) for mid in rng.permutation([MIDS[instrument], *broader]))
    return Video(
        seed=seed,
        name=name,
        row=Row(youtube_id, partition, start_s, start_s + length_s, mids),
        labelled=instrument,
        really=instrument,
        around=str(rng.choice([other for other in MIDS if other != instrument])),
        length_s=start_s + length_s + float(rng.uniform(1, 3)),
        extension=str(rng.choice(("webm", "m4a"))),
    )


def _broader(mid: str) -> list[str]:
    """List the classes above one of ours that rows may name, and Music, in a fixed order."""
    parents = next(parents for own, _, _, parents in _CLASSES if own == mid)
    listed = {own for own, index, _, _ in _CLASSES if index is not None}
    found = [ancestor for parent in parents if parent in listed for ancestor in (parent, *_broader(parent))]
    return list(dict.fromkeys([*found, _MUSIC]))


def _foreign(rng: np.random.Generator, youtube_id: str, partition: str, index: int) -> Row:
    if index % 4 == 0:
        pair = [str(mid) for mid in rng.choice(list(MIDS.values()), size=2, replace=False)]
        mids = tuple(sorted([*pair, _MUSIC]))
    else:
        mids = _FOREIGN[int(rng.integers(len(_FOREIGN)))]
    start_s = 10.0 * int(rng.integers(30))
    return Row(youtube_id, partition, start_s, start_s + 10, mids)


def render_video(video: Video) -> Member:
    """Render a video's file: other music, the segment, other music."""
    start, end, total = (round(time_s * SAMPLE_RATE) for time_s in (video.row.start_s, video.row.end_s, video.length_s))
    name = f"audioset/{video.name}"
    if video.silent:
        segment = near_silence(rng_for(video.seed, name), end - start)
    else:
        segment = Song(video.seed, name, (video.really,)).excerpt("segment", end - start, {video.really: 0.0})
    around = Song(video.seed, f"{name} around", (video.around,))
    lengths = {"before": start, "after": total - end}
    before, after = (
        _faded(around.excerpt(part, length, {video.around: 0.0})) if length else np.zeros((0, 2), np.int16)
        for part, length in lengths.items()
    )
    content = video_bytes(np.concatenate([before, segment, after]), video.extension)
    return video.path, content[: len(content) // 2] if video.truncated else content


def _faded(pcm: Pcm) -> Pcm:
    """Fade in and out over 10 ms, so that nothing of it reaches the segment through the codec."""
    length = min(len(pcm) // 2, SAMPLE_RATE // 100)
    shape = np.ones(len(pcm))
    shape[:length] = np.arange(length) / length
    shape[len(pcm) - length :] = np.arange(length)[::-1] / length
    return np.asarray(np.rint(pcm * shape[:, np.newaxis]).astype(np.int16))


def table_files(plan: AudioSetPlan) -> Iterator[Member]:
    """Write the text files: segment lists, class indices, ontology; paths below the mirror's root."""
    for partition, stem in PARTITIONS.items():
        rows = sorted((row for row in plan.rows if row.partition == partition), key=lambda row: row.youtube_id)
        yield f"{CSV_FOLDER}/{stem}.csv", _segments_csv(rows).encode()
    lines = ["index,mid,display_name"]
    lines += [f'{index},{mid},"{name}"' for mid, index, name, _ in _CLASSES if index is not None]
    yield f"{CSV_FOLDER}/class_labels_indices.csv", "\n".join([*lines, ""]).encode()
    yield ONTOLOGY, _ontology().encode()


def _segments_csv(rows: list[Row]) -> str:
    labels = [mid for row in rows for mid in row.mids]
    header = [
        "# Segments csv created Sun Mar  5 10:54:31 2017",
        f"# num_ytids={len(rows)}, num_segs={len(rows)}, "
        f"num_unique_labels={len(set(labels))}, num_positive_labels={len(labels)}",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    return "\n".join([*header, *(row.line for row in rows), ""])


def _ontology() -> str:
    nodes = [
        {
            "id": mid,
            "name": name,
            "description": f"{name}: node of the sample's excerpt of the ontology.",
            "citation_uri": "",
            "positive_examples": [],
            "child_ids": [child for child, _, _, parents in _CLASSES if mid in parents],
            "restrictions": ["abstract"] if index is None else [],
        }
        for mid, index, name, _ in _CLASSES
    ]
    return json.dumps(nodes, indent=2) + "\n"
