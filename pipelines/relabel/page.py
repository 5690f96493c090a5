"""The folder that an annotator opens: a page, the clips to listen to, and what was given for them.

relabel/index.html       the page; works from the folder itself, without any server or network
relabel/audio/001.flac   the clips, in an order and under names that say nothing of their labels
relabel/sample.json      ids, given labels, digests: what `score` compares the answers with
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tutti.datasets.bounded import parse_json, read_bounded, read_json
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.files import atomic_folder, write_file
from tutti.datasets.manifest import Manifest, canonical_json, digest_of
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.datasets.shard import audio_extension, check_audio, shard_table
from tutti.datasets.taxonomy import INSTRUMENTS
from tutti.datasets.user_text import decode_text
from tutti.train.reading.checked import CheckedShard, check_shards

SCHEMA_VERSION = 1  # of sample.json and of the answers
COLUMNS = ["id", "source", "license", "presence", "audio_sha256"]
MAX_BYTES = 1 << 25  # of sample.json and of a file of answers
SHOWN_CHARACTERS = 60  # of a wrong value
AUDIO_COLUMNS = ["id", "audio", "sample_rate", "num_samples"]
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kept clip that may be drawn, and where its audio lies."""

    id: str
    source: str
    split: str
    license: str
    pcm_sha256: str
    labels: Mapping[str, int]  # instrument -> PRESENT or ABSENT; an instrument left out is unknown
    shard: CheckedShard
    row_group: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Dataset and parameters that a sample was drawn from."""

    dataset: str
    version: str  # of the dataset
    root_digest: str
    seed: int
    per_class: int
    splits: tuple[str, ...]  # empty: all
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample read back: the clips with their given labels, and the digest that answers name."""

    folder: Path
    digest: str
    content: Mapping[str, Any]  # sample.json
    instruments: tuple[str, ...]
    labels: Mapping[str, Mapping[str, int]]  # clip id -> instrument -> PRESENT or ABSENT


@dataclass(frozen=True, slots=True)
class Answer:
    """One person's answer for one clip."""

    instruments: frozenset[str]  # all others are absent; empty: none of the classes
    unsure: bool = False
    revealed: bool = False  # decided with the given labels in sight
    note: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one person; clips without an answer are left out."""

    annotator: str
    clips: Mapping[str, Answer]  # clip id -> answer


def candidates(manifest: Manifest, splits: Collection[str], sources: Collection[str]) -> Iterator[Candidate]:
    """Read kept clips of some splits and sources; none named: all.

    Raises:
        IntegrityError: a shard is not what the manifest lists, or cannot be read.
    """
    infos = [info for info in manifest.shards() if not splits or info.split in splits]
    for file in check_shards(manifest, infos, None, num_threads=1):
        with file.open() as shard:
            for group in range(shard.num_row_groups):
                for row in shard_table(shard, file.path, COLUMNS, group=group).to_pylist():
                    if sources and row["source"] not in sources:
                        continue
                    stated = zip(manifest.instruments, row["presence"], strict=True)
                    known = {name: presence for name, presence in stated if presence != UNKNOWN}
                    facts = (row["id"], row["source"], file.info.split, row["license"], row["audio_sha256"], known)
                    yield Candidate(*facts, file, group)


def draw(
    clips: Sequence[Candidate], instruments: Sequence[str], per_class: int, seed: int
) -> list[tuple[Candidate, str]]:
    """Draw up to `per_class` clips of each class, each clip once, with the class that it was drawn for.

    Rare classes choose first. The order is by digest, over all classes: it tells a listener nothing.
    """
    order = {clip.id: digest_of([seed, clip.id]) for clip in clips}
    members = {name: [clip for clip in clips if clip.labels.get(name) == PRESENT] for name in instruments}
    taken: dict[str, tuple[Candidate, str]] = {}
    for name in sorted(instruments, key=lambda name: (len(members[name]), name)):
        free = sorted((clip for clip in members[name] if clip.id not in taken), key=lambda clip: order[clip.id])
        taken |= {clip.id: (clip, name) for clip in free[:per_class]}
    return [taken[clip_id] for clip_id in sorted(taken, key=order.__getitem__)]


def write_sample(
    folder: Path, drawn: Sequence[tuple[Candidate, str]], instruments: Sequence[str], origin: Origin
) -> str:
    """Write the folder whole, where none is: one with answers is never touched.

    Args:
        folder: to be made.
        drawn: (clip, class that it was drawn for), in the order of the page.
        instruments: the classes.
        origin: what the clips were drawn from.

    Returns:
        The digest of the sample, which the answers will name.

    Raises:
        UsageError: the folder is there already.
        IntegrityError: the audio of a clip is not what its digest says.
    """
    refuse_existing(folder)
    with atomic_folder(folder) as temporary:
        digits = max(3, len(str(len(drawn))))
        rows = []
        audio = _read_audio([candidate for candidate, _ in drawn])
        for number, (candidate, drawn_for) in enumerate(drawn, start=1):
            data = audio[candidate.id]
            path = f"audio/{number:0{digits}d}.{audio_extension(data)}"
            write_file(temporary / path, data, durable=False)
            rows.append(_row(candidate, drawn_for, path))
        content = {"schema_version": SCHEMA_VERSION, **asdict(origin), "instruments": list(instruments), "clips": rows}
        write_file(temporary / "sample.json", (canonical_json(content) + "\n").encode())
        write_file(temporary / "index.html", page(content).encode())
    if read_sample(folder).digest != digest_of(content):
        raise UsageError(f"{folder}: another process made it meanwhile; name another folder with --output")
    return digest_of(content)


def refuse_existing(folder: Path) -> None:
    """Refuse a folder that exists: it may hold answers.

    Raises:
        UsageError: the folder exists.
    """
    if os.path.lexists(folder):
        raise UsageError(f"{folder}: exists, perhaps with answers; move it away or name another one with --output")


def _row(candidate: Candidate, drawn_for: str, path: str) -> dict[str, Any]:
    return {
        "id": candidate.id,
        "audio": path,
        "pcm_sha256": candidate.pcm_sha256,
        "source": candidate.source,
        "split": candidate.split,
        "license": candidate.license,
        "drawn_for": drawn_for,
        "labels": dict(candidate.labels),
    }


def _read_audio(candidates: Sequence[Candidate]) -> dict[str, bytes]:
    """Read complete audio files by clip id; only the row groups that hold one are read."""
    groups: dict[tuple[Path, int], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((candidate.shard.path, candidate.row_group), []).append(candidate)
    found: dict[str, bytes] = {}
    for (path, group), wanted in groups.items():
        digests = {candidate.id: candidate.pcm_sha256 for candidate in wanted}
        with wanted[0].shard.open() as shard:
            rows = shard_table(shard, path, AUDIO_COLUMNS, group=group).to_pylist()
        for row in rows:
            if row["id"] in digests:
                check_audio(path.name, row | {"audio_sha256": digests[row["id"]]})
                found[row["id"]] = row["audio"]["bytes"]
    return found


def page(content: Mapping[str, Any]) -> str:
    """Write the page of a sample: one file, nothing to fetch but the clips."""
    shown = {
        "sample": digest_of(content),
        "dataset": content["dataset"],
        "version": content["version"],
        "instruments": [{"name": name, "display": display_name(name)} for name in content["instruments"]],
        "clips": [{key: clip[key] for key in ("id", "audio", "labels")} for clip in content["clips"]],
    }
    # JSON inside HTML: no text of a corpus may end the script element or open a comment in it.
    return TEMPLATE.read_text(encoding="utf-8").replace("__SAMPLE__", canonical_json(shown).replace("<", "\\u003c"))


def display_name(instrument: str) -> str:
    """Find the name that people read, where the taxonomy has one."""
    known = INSTRUMENTS.get(instrument)
    return instrument.replace("_", " ").capitalize() if known is None else known.display_name


def read_sample(folder: Path) -> Sample:
    """Read the sample in a folder.

    Raises:
        UsageError: there is none.
        IntegrityError: sample.json is damaged or of another version.
    """
    path = folder / "sample.json"
    if not path.is_file():
        raise UsageError(f"{folder}: no sample here (no sample.json); draw one with pipelines.relabel sample")
    content = read_json(path, MAX_BYTES, what="a sample")
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise IntegrityError(f"{path}: schema version {str(version)[:20]}, this code reads {SCHEMA_VERSION}")
    try:
        instruments = tuple(_text(name) for name in _list(content["instruments"]))
        labels = {_text(clip["id"]): _labels(clip["labels"], instruments) for clip in _list(content["clips"])}
        for name in ("dataset", "version", "root_digest"):
            _text(content[name])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: not a sample ({error!r}); draw it again") from error
    return Sample(folder, digest_of(content), content, instruments, labels)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, found {str(value)[:SHOWN_CHARACTERS]!r}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, found {str(value)[:SHOWN_CHARACTERS]!r}")
    return value


def _labels(value: Any, instruments: Collection[str]) -> dict[str, int]:
    if not isinstance(value, dict) or not value.keys() <= set(instruments):
        raise ValueError(f"labels {str(value)[:SHOWN_CHARACTERS]!r} are not of the classes")
    if not all(type(presence) is int and presence in (PRESENT, ABSENT) for presence in value.values()):
        raise ValueError(f"labels {str(value)[:SHOWN_CHARACTERS]!r} are not 1 or 0")
    return value


def read_answers(path: Path, sample: Sample) -> Answers:
    """Read one person's answers, as the page saves them.

    Raises:
        UsageError: the file cannot be read or belongs to another sample.
    """
    try:
        data = read_bounded(path, MAX_BYTES)
        content = parse_json(decode_text(data, path.name).encode())  # an editor may have put a byte order mark first
        version, digest = content["schema_version"], content["sample"]
    except (OSError, ValueError, KeyError, TypeError, IntegrityError, UsageError) as error:
        raise UsageError(f"{path}: no answers here ({error}); save them with the page's Download button") from error
    if version != SCHEMA_VERSION or digest != sample.digest:
        raise UsageError(f"{path}: answers to another sample than {sample.folder}; name theirs with --sample")
    try:
        clips = {
            clip_id: _answer(entry, sample.instruments)
            for clip_id, entry in content["answers"].items()
            if entry["instruments"] or entry["none"]  # otherwise only looked at, or a note
        }
        if strange := sorted(set(clips) - set(sample.labels)):
            raise ValueError(f"{strange[0]} is no clip of the sample")
        name = _text(content["annotator"]).strip() or path.stem
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: cannot be understood ({error!r}); was it edited?") from error
    return Answers(name, {clip_id: clips[clip_id] for clip_id in sorted(clips)})


def _answer(entry: Mapping[str, Any], instruments: Collection[str]) -> Answer:
    heard = [_text(name) for name in _list(entry["instruments"])]
    if strange := sorted(set(heard) - set(instruments)):
        raise ValueError(f"{strange[0]!r} is no class of the sample")
    return Answer(frozenset(heard), entry["unsure"] is True, entry["revealed"] is True, _text(entry["note"]))
