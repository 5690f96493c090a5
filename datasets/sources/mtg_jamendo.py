"""MTG-Jamendo: 25,135 tracks with 41 instrument tags of their uploaders (Bogdanov et al. 2019).

    data/autotagging_instrument.tsv                             the whole subset: `split=none`
    data/splits/split-{0..4}/autotagging_instrument-PART.tsv    official, no artist in two parts; ukulele dropped
    data/download/raw_30s_QUALITY_sha256_{tracks,tars}.txt      "<sha256> NN/ID.mp3", "<sha256> raw_30s_QUALITY-NN.tar"
    audio_licenses.txt                                          a block a track: path, title, licence with its URL
    raw_30s/QUALITY/raw_30s_QUALITY-NN.tar                      members NN/ID.mp3, of audio-low NN/ID.low.mp3

QUALITY is audio or audio-low, NN is ID % 100 in two digits.
The audio lies in 100 tars of 508 GB together (audio-low: 156 GB), 45 % of it of this subset: tars are streamed, only
members that a recipe wants get into the cache.

A row of a table has a column per tag. Uploaders name some of what plays: a tag that is missing says nothing, so all
that is not named is unknown. Of a track all tags hold for every clip that is cut from it. 990 files are byte-identical
with others under other ids, of other artists too: `split` finds them by their samples.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from tutti.datasets.bounded import read_bounded
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.hierarchy import labels_of, sounds_of
from tutti.datasets.record import Clip, Defect, Media, Published, Recording, Seconds, clip_id
from tutti.datasets.source import Card, LocalFile, RemoteFile

CARD = Card(
    title="The MTG-Jamendo dataset for automatic music tagging, instrument subset",
    homepage="https://github.com/MTG/mtg-jamendo-dataset",
    license="CC-BY-NC-SA-4.0",
    license_url="https://creativecommons.org/licenses/by-nc-sa/4.0/",
    license_note="Tags CC BY-NC-SA 4.0; each track keeps its own Creative Commons licence, carried per clip.",
    citation=(
        "D. Bogdanov, M. Won, P. Tovstogan, A. Porter, X. Serra: The MTG-Jamendo dataset for automatic music tagging. "
        "ICML Machine Learning for Music Discovery Workshop, 2019."
    ),
    num_clips=25_135,
    size_bytes=508_000_000_000,
)

Quality = Literal["audio", "audio-low"]
PARTS = ("train", "validation", "test")

_DATA = "https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/master"
_TWIN = "https://essentia.upf.edu/documentation/datasets/mtg-jamendo/raw_30s"  # slower
_TABLE = "autotagging_instrument"
_AUDIO = "https://cdn.freesound.org/mtg-jamendo/raw_30s"
_SPLIT_SHA256 = (  # of commit 1b4fa8c (2024-07-09): train, validation, test
    (
        "f844a85f0b40bb31a5d5b448ddfc10a68d7b38ecc760673d23df2bd6e7ca0f4c",
        "a5060020013ac5ba65c6470ee83fc2a9785db1fe554b55065de08aa9b0cca70d",
        "8c1ab86f3212b6484106baf2e78f70dd5520b917607487ac98999adbd5d7ab1a",
    ),
    (
        "f5bfec3e615c0a58f8d3d10b120623c900ba5b6a778e7570dc0a21e76a96c58c",
        "58f604ff6bac7ece774e0b2d5a61b08361352c8b913a57a961c3ec309e467081",
        "d534a4862d2aa832a1a44710a9a66d387b8c7dcc4fa89f29a319db3951f171e7",
    ),
    (
        "bfab4e40ccaea643661c2cc00c94337acf6ca9a196f030b4c060d493dc28d6b8",
        "baff5a7b9256d7d471652af36d39e777c71ed1a7b352b7a91acea406b69dfc29",
        "6d156620287481bbc64ab35a8caabab7837d4767b4f4b110d289113a2c2fc240",
    ),
    (
        "1f98b96506e7d6ab4d9e0623788fc170a096cf48055bfc218a6125bfe9bf1755",
        "91edb348e1ef5946fe6d0c019cf5dbc6a84d3b38f4686043a017a9634144a96f",
        "c6bf28a4172a7a020ec50ea0c5606956341f1951b43d6d80266abea3a036c09f",
    ),
    (
        "256d339d4244eb86d44cc060d8233e7178cb8e3e2758fed321727ce345d7b097",
        "47909d5530a96f2313f47523c235f740c866361b997c8b59df423f00462dc587",
        "dad344936e53391ad0016f484ac5c2bdd2d98a1bfa91102968b7c477f222910f",
    ),
)
_TARS_SHA256: Mapping[Quality, str] = {
    "audio": "e49803608329103a78f82697a86b8c96d0b16f9cd02ddb6f4efb0b5207bd721f",
    "audio-low": "9c28e6090fac7fae7274296622e8fc8b6e905672c18707ac02c8be716d4623c3",
}

_WHOLE = RemoteFile(
    "all",
    f"{_DATA}/data/{_TABLE}.tsv",
    sha256="c045c496870a788a03766b1b572f388e716247e43a72410149dfc0feacbdc43a",
)
_SPLITS = tuple(
    tuple(
        RemoteFile(f"split{number}-{part}", f"{_DATA}/data/splits/split-{number}/{_TABLE}-{part}.tsv", sha256=sha256)
        for part, sha256 in zip(PARTS, digests, strict=True)
    )
    for number, digests in enumerate(_SPLIT_SHA256)
)
_LISTS = {
    quality: (
        RemoteFile(f"{quality}-tracks", f"{_DATA}/data/download/raw_30s_{quality}_sha256_tracks.txt"),
        RemoteFile(f"{quality}-tars", f"{_DATA}/data/download/raw_30s_{quality}_sha256_tars.txt", sha256=sha256),
    )
    for quality, sha256 in _TARS_SHA256.items()
}
_LICENSES = RemoteFile("licenses", f"{_DATA}/audio_licenses.txt", optional=True)

REMOTES = (_WHOLE, *(file for files in _SPLITS for file in files), *_LISTS["audio"], *_LISTS["audio-low"], _LICENSES)

# Tags, without their "instrument---", and what they sound like.
SOUNDS = sounds_of("""
    key = accordion: accordion
    plucked_string = bass ~ electric_bass, acoustic_guitar: acousticbassguitar
    plucked_string/acoustic_guitar = acoustic_guitar: acousticguitar, classicalguitar
    = bass ~ plucked_string, bowed_string, synth, electric_bass: bass
    ~ percussion, drums, synth: beat
    percussion: bell, bongo
    brass: brass, horn
    bowed_string = cello: cello
    woodwind = clarinet: clarinet
    ~ all: computer, sampler
    bowed_string = bass: doublebass
    percussion/drums = drums ~ synth: drummachine
    percussion/drums = drums: drums
    plucked_string/electric_guitar = electric_guitar: electricguitar
    key ~ piano: electricpiano, rhodes
    woodwind = flute: flute
    plucked_string = guitar ~ electric_guitar, acoustic_guitar: guitar
    woodwind: harmonica, oboe
    plucked_string: harp
    key ~ piano, synth: keyboard
    ~ all but voice, synth: orchestra
    key = organ: organ, pipeorgan
    synth = synthesizer: pad, synthesizer
    percussion ~ drums: percussion
    key/piano = piano: piano
    woodwind = saxophone: saxophone
    bowed_string ~ violin: strings
    brass = trombone: trombone
    brass = trumpet: trumpet
    plucked_string = ukulele: ukulele
    bowed_string: viola
    bowed_string/violin = violin: violin
    voice = voice ~ singer: voice
""")
INSTRUMENTS = tuple(sorted({sound.instrument for sound in SOUNDS.values() if sound.instrument}))
PARTITIONS = (*PARTS, "all")  # "all": of the table without splits

STREAMED = True

TAG = "instrument---"
HEADER = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
MAX_TABLE_BYTES = 64 << 20  # the longest, the digests of 55,701 tracks, has 5 MB
MAX_TRACK_S = 86_400.0  # a day; the longest track has 3,966 s
MIN_CLIP_S = 1.0
TAIL_S: Seconds = 0.5  # of a track, not cut: lengths are given to .1 s, and decoders differ by an encoder's padding

_ROW = re.compile(
    r"track_(?P<track>\d{7,})\tartist_(?P<artist>\d{6,})\talbum_(?P<album>\d{6,})\t(?P<path>[^\t]+)"
    r"\t(?P<duration>\d{1,6}(?:\.\d{1,6})?)\t(?P<tags>[^\t]+(?:\t[^\t]+)*)",
    re.ASCII,
)
_LISTED = re.compile(r"([0-9a-f]{64}) [ *]?(\S+)", re.ASCII)
_LICENSE_URL = re.compile(r"https?://creativecommons\.org/(?:licenses|publicdomain)/[a-z0-9./+-]+", re.ASCII)
_AUDIO_PATH = re.compile(r"\d\d/\d+\.mp3", re.ASCII)
_REDO = "download it again"


@dataclass(frozen=True)
class Config:
    """Choice of a split, of the audio, and of what is cut from each track."""

    split: int | None = 0  # official, 0 to 4; None: the whole table, to be divided by artist
    quality: Quality = "audio"  # 320 kb/s stereo, or "audio-low": variable, mono
    clip_s: Seconds | None = None  # length of the clips that are cut; None: a track is one clip
    max_clips: int = 10  # of a track with clip_s, spread evenly over it
    max_s: Seconds = 600.0  # of a track without clip_s: longer ones are cut there
    max_tags: int | None = None  # tracks with more are rejected as tag dumps (222 have 20 to 31); None: none is
    missing: Literal["unknown", "absent"] = "unknown"  # a tag that is not given; absent: what a baseline assumes
    licenses: bool = True  # read audio_licenses.txt where there is one; else the licence of a track is unknown

    def __post_init__(self) -> None:
        """Refuse a split that does not exist and lengths of nothing."""
        if self.split is not None and not 0 <= self.split < len(_SPLITS):
            raise UsageError(f"mtg_jamendo: split={self.split}; choose one of 0 to {len(_SPLITS) - 1}, or none")
        if self.quality not in get_args(Quality):
            raise UsageError(f"mtg_jamendo: quality={self.quality!r}; choose one of {', '.join(get_args(Quality))}")
        if self.missing not in ("unknown", "absent"):
            raise UsageError(f"mtg_jamendo: missing={self.missing!r}; choose one of unknown, absent")
        for name in ("clip_s", "max_s"):
            value = getattr(self, name)
            if value is not None and not MIN_CLIP_S <= value <= MAX_TRACK_S:
                raise UsageError(f"mtg_jamendo: {name}={value}; expected {MIN_CLIP_S:g} to {MAX_TRACK_S:g} seconds")
        for name in ("max_clips", "max_tags"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"mtg_jamendo: {name}={value}; expected at least 1")


@dataclass(frozen=True, slots=True)
class TrackRow:
    """One row of a table."""

    track: int
    artist: str  # digits
    duration_s: Seconds
    tags: tuple[str, ...]  # keys of SOUNDS

    @property
    def folder(self) -> str:
        """Name of the folder, and number of the tar, that holds the track."""
        return f"{self.track % 100:02d}"


def remotes(config: Config) -> tuple[RemoteFile, ...]:
    """List the tables that a configuration reads."""
    tables = (_WHOLE,) if config.split is None else _SPLITS[config.split]
    return (*tables, *_LISTS[config.quality], *((_LICENSES,) if config.licenses else ()))


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read all tracks, in the order of the tables.

    Raises:
        IntegrityError: a table is damaged, or a track or an artist is in two parts of a split.
    """
    tracks_file, tars_file = _LISTS[config.quality]
    of_tracks = parse_digests(*_text(files, tracks_file))
    of_tars = parse_digests(*_text(files, tars_file))
    licenses = parse_licenses(_text(files, _LICENSES)[0]) if _LICENSES.name in files else {}
    tables = {"all": _WHOLE} if config.split is None else dict(zip(PARTS, _SPLITS[config.split], strict=True))
    partition_of: dict[int | str, str] = {}  # tracks by number, artists by their digits
    for partition, remote in tables.items():
        text, name = _text(files, remote)
        for line, row in parse_table(text, name):
            _check_apart(row, partition, partition_of, f"{name}:{line}")
            yield _recording(row, partition, config, of_tracks, of_tars, licenses)


def parse_table(text: str, name: str) -> Iterator[tuple[int, TrackRow]]:
    """Parse the rows of a table, each with its line.

    Raises:
        IntegrityError: another header, or a row that is damaged or repeated.
    """
    lines = text.removesuffix("\n").split("\n")
    if lines[0].removesuffix("\r").split("\t") != HEADER:
        raise IntegrityError(f"{name}:1: header is {lines[0][:80]!r}, not {' '.join(HEADER)} by tabs; {_REDO}")
    seen: set[int] = set()
    for number, line in enumerate(lines[1:], start=2):
        row = parse_row(line.removesuffix("\r"), f"{name}:{number}")
        if row.track in seen:
            raise IntegrityError(f"{name}:{number}: track_{row.track:07d} stands twice; {_REDO}")
        seen.add(row.track)
        yield number, row


def parse_row(line: str, where: str) -> TrackRow:
    """Parse one row of a table.

    Raises:
        IntegrityError: a field is missing or is nothing that it can be.
    """
    match = _ROW.fullmatch(line)
    if match is None:
        raise IntegrityError(
            f"{where}: expected track_N, artist_N, album_N, path, seconds and one tag or more, by tabs, got "
            f"{line[:100]!r}; {_REDO}"
        )
    track, duration_s = int(match["track"]), float(match["duration"])
    path = f"{track % 100:02d}/{track}.mp3"
    if match["path"] != path:
        raise IntegrityError(f"{where}: path of track {track} is {match['path'][:80]!r}, not {path!r}; {_REDO}")
    if not 0 < duration_s <= MAX_TRACK_S:
        raise IntegrityError(f"{where}: track {track} lasts {match['duration']} s, no time of a track; {_REDO}")
    tags = tuple(tag.removeprefix(TAG) for tag in match["tags"].split("\t") if tag.startswith(TAG))
    wrong = [tag for tag in match["tags"].split("\t") if tag.removeprefix(TAG) == tag or tag[len(TAG) :] not in SOUNDS]
    if wrong:
        raise IntegrityError(f"{where}: unknown tag {wrong[0][:80]!r} of track {track}; {_REDO}")
    if len(set(tags)) < len(tags):
        raise IntegrityError(f"{where}: a tag of track {track} stands twice; {_REDO}")
    return TrackRow(track, match["artist"], duration_s, tags)


def parse_digests(text: str, name: str) -> dict[str, str]:
    """Parse a list of checksums: name of a file -> its sha256.

    Raises:
        IntegrityError: a line is damaged, or a name has two digests.
    """
    digests: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        match = _LISTED.fullmatch(line.removesuffix("\r"))
        if match is None:
            raise IntegrityError(f"{name}:{number}: expected '<sha256> <name>', got {line[:100]!r}; {_REDO}")
        if digests.setdefault(match[2], match[1]) != match[1]:
            raise IntegrityError(f"{name}:{number}: {match[2]} has another digest further up; {_REDO}")
    return digests


def parse_licenses(text: str) -> dict[str, str]:
    """Parse the licences, a blank line between tracks: path of a track -> address of its licence.

    A block without a path or without an address of Creative Commons says nothing of any track.
    """
    licenses = {}
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        path, urls = block.strip().partition("\n")[0].strip(), _LICENSE_URL.findall(block)
        if _AUDIO_PATH.fullmatch(path) and urls:
            licenses[path] = urls[-1].rstrip(".")
    return licenses


def spans_of(duration_s: Seconds, config: Config) -> list[tuple[Seconds, Seconds]]:
    """Choose what is cut from a track: starts and ends in seconds, never its last half second.

    Clips of `clip_s` do not overlap and lie evenly over the track; a shorter track is one clip.
    """
    end_s = duration_s - TAIL_S if duration_s > MIN_CLIP_S + TAIL_S else duration_s
    if config.clip_s is None or end_s < config.clip_s:
        return [(0.0, round(min(end_s, config.max_s), 3))]
    count = min(config.max_clips, int(end_s / config.clip_s))
    gap_s = (end_s - count * config.clip_s) / count
    starts = [math.floor(1000 * (gap_s / 2 + index * (config.clip_s + gap_s))) / 1000 for index in range(count)]
    return [(start, round(start + config.clip_s, 3)) for start in starts]


def _check_apart(row: TrackRow, partition: str, partition_of: dict[int | str, str], where: str) -> None:
    for key, shown in ((row.track, f"track_{row.track:07d}"), (row.artist, f"artist_{row.artist}")):
        other = partition_of.setdefault(key, partition)
        if other != partition:
            raise IntegrityError(f"{where}: {shown} is in {other} too, but official splits share no artist; {_REDO}")


def _recording(
    row: TrackRow,
    partition: str,
    config: Config,
    of_tracks: Mapping[str, str],
    of_tars: Mapping[str, str],
    licenses: Mapping[str, str],
) -> Recording:
    key, path = f"track_{row.track:07d}", f"{row.folder}/{row.track}"
    member = f"{path}.mp3" if config.quality == "audio" else f"{path}.low.mp3"
    tar = f"raw_30s_{config.quality}-{row.folder}.tar"
    sounds = [SOUNDS[tag] for tag in row.tags]
    complete = config.missing == "absent"
    labels = labels_of(sounds, "canonical", origin="weak", complete=complete)
    hierarchy = labels_of(sounds, "hierarchy15", origin="weak", complete=complete)
    defect = _defect(row, config)
    clips = tuple(
        Clip(
            id=clip_id("mtg_jamendo", key, start_s),
            source="mtg_jamendo",
            recording=key,
            group=f"mtg_jamendo/artist:{row.artist}",
            partition=partition,
            labels=labels,
            hierarchy=hierarchy,
            license=licenses.get(f"{path}.mp3", "unknown"),
            start_s=start_s,
            end_s=end_s,
            declared_s=round(end_s - start_s, 3),
            defect=defect,
        )
        for start_s, end_s in spans_of(row.duration_s, config)
    )
    published = Published(of_tracks.get(member), of_tars.get(tar), (f"{_TWIN}/{config.quality}/{tar}",))
    return Recording(Media(f"{_AUDIO}/{config.quality}/{tar}", member, published=published), clips)


def _defect(row: TrackRow, config: Config) -> Defect | None:
    if config.max_tags is None or len(row.tags) <= config.max_tags:
        return None
    return Defect("tag_dump", len(row.tags), f"{len(row.tags)} tags, above mtg_jamendo.max_tags={config.max_tags}")


def _text(files: Mapping[str, LocalFile], remote: RemoteFile) -> tuple[str, str]:
    """Read a table; return its text and the name that errors give it."""
    name = remote.url.removeprefix(f"{_DATA}/").removeprefix("data/")
    try:
        return read_bounded(files[remote.name].path, MAX_TABLE_BYTES).decode("utf-8"), name
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{name}: is not UTF-8 text ({error}); {_REDO}") from error
