"""The user's own files (`--data-from DIR`): archives, label files, and audio of videos.

Archives and label files are found by their upstream name anywhere below the folders, or, where
a checksum is pinned, by content (a browser saves `IRMAS-TrainingData (1).zip`). A `SHA256SUMS` at
the top of a folder replaces the pins, as it does in a mirror.

Audio of a video is named, with or without a leading `Y`,

    <id>.<ext>                  the whole video, or the clip ready cut (PANNs), if its length leaves no doubt
    <title> [<id>].<ext>        likewise: yt-dlp's own names
    <id>_<start>.<ext>          cut from `start` on, for as long as the labels say
    <id>_<start>_<end>.<ext>    cut from `start` to `end`, just the clip or more around it

with start and end in seconds ("30", "30.000") or milliseconds ("30000"). A name is only a claim:
a file counts when it decodes and its length fits. What may be the whole video as well as a clip cut with something
around it is dismissed, unless its place says that it is whole (`www.youtube.com/watch/`, a mirror's).
"""

import bisect
import functools
import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from tutti.datasets.decode_error import DecodeError
from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import Seconds
from tutti.datasets.source import RemoteFile
from tutti.pipelines.acquisition.own_index import Index, Named, index_of, listed_sum, parse_name
from tutti.pipelines.cache.soundness import Blob, hash_file, mismatch

TOLERANCE_S: Seconds = 0.1  # of a cut clip's length: what `clean` allows before it says "truncated"
WHOLE_FROM = 3.0  # times a clip's length: shorter files may be the clip with something around it
WHOLE_PLACE = ("www.youtube.com", "watch")  # folders of a mirror: whole videos by definition
MAX_FILE_BYTES = 1 << 30  # read into memory; as for members of archives, far above any audio of ours

# What the name says: the clip's start and end, its start, a start and end around it, or the id only.
Kind = Literal["exact", "start", "around", "whole"]
_RANKS: dict[Kind, int] = {"exact": 0, "start": 1, "around": 2, "whole": 3}


@dataclass(frozen=True, slots=True)
class OwnFile:
    """An archive or a label file of a source, as the user has it."""

    path: Path
    sha256: str
    md5: str
    num_bytes: int
    verified_by: str  # "sha256", "md5", "own" (the folder's SHA256SUMS), or "first use" (nothing known)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may hold the audio of a clip."""

    path: Path
    kind: Kind
    promised_s: Seconds | None = None  # length by the name's own start and end
    sha256: str | None = None  # by the SHA256SUMS of its root
    begins_s: Seconds | None = None  # in the video, by a name that says more than the clip; None: as the clip, or at 0

    def is_in_whole_place(self) -> bool:
        """Whether the file lies where whole videos lie."""
        return self.path.parent.parts[-2:] == WHOLE_PLACE

    def says_cut(self) -> bool:
        """Whether the name is that of a ready-cut clip: `Y<id>.<ext>`, as in PANNs' archives."""
        return len(self.path.stem) == 12 and self.path.name.startswith("Y")


@dataclass(frozen=True, slots=True)
class Placement:
    """A decision on a file for one clip: what it is taken for, and why."""

    kind: Literal["whole", "cut", "dismissed"]
    reason: str  # for people
    offset_s: Seconds | None = None  # where in the video the file begins; None: dismissed


def relation_to_clip(
    named: Named, start_s: Seconds, end_s: Seconds | None
) -> tuple[Kind, Seconds | None, Seconds | None] | None:
    """Relate a file's name to the clip [start_s, end_s): kind, promised length, start if it is another.

    Start and end of a name are in one unit: whichever of seconds and milliseconds fits.
    None: the name speaks of another part of the video.

    Args:
        named: the claim.
        start_s: of the clip in the video.
        end_s: of the clip in the video; None: the end of the video, so that only the whole fits.
    """
    if named.start is None:
        return "whole", None, None
    if end_s is None:
        return None
    clip_ms = round(start_s * 1000), round(end_s * 1000)
    fits: list[tuple[Kind, Seconds | None, Seconds | None]] = []
    for scale in (1000, 1):  # of seconds, of milliseconds
        if scale == 1 and "." in named.start + (named.end or ""):
            continue
        first_ms = round(float(named.start) * scale)
        if named.end is None:
            if first_ms == clip_ms[0]:
                return "start", None, None
            continue
        last_ms = round(float(named.end) * scale)
        promised_s = (last_ms - first_ms) / 1000
        if first_ms == clip_ms[0] and last_ms > first_ms:
            fits.append(("exact" if last_ms == clip_ms[1] else "start", promised_s, None))
        elif first_ms < clip_ms[0] and clip_ms[1] <= last_ms:
            fits.append(("around", promised_s, first_ms / 1000))
    return min(fits, key=lambda fit: _RANKS[fit[0]], default=None)


def placement(
    candidate: Candidate,
    duration_s: Seconds,
    start_s: Seconds,
    end_s: Seconds | None,
    tolerance_s: Seconds = TOLERANCE_S,
) -> Placement:
    """Decide what a file is by its name, its place and its decoded length; nothing is guessed.

    Args:
        candidate: the file.
        duration_s: its length.
        start_s: of the clip in the video.
        end_s: of the clip in the video; None: the end of the video.
        tolerance_s: of the length of a file that is cut.
    """
    lasts = f"lasts {duration_s:.3f} s"
    if end_s is None:
        if candidate.kind == "whole":
            return Placement("whole", "its clip goes on to the end of the video", 0.0)
        return Placement("dismissed", f"{lasts}; expected the whole video")
    wanted_s = end_s - start_s
    promised_s = wanted_s if candidate.promised_s is None else candidate.promised_s
    reaches = duration_s >= end_s - tolerance_s
    fits = round(abs(duration_s - promised_s), 6) <= tolerance_s and round(wanted_s - duration_s, 6) <= tolerance_s
    if candidate.kind != "whole":
        if fits:
            first_s = start_s if candidate.begins_s is None else candidate.begins_s
            return Placement("cut", f"by its name from {first_s:.3f} s on, and {lasts}", first_s)
        return Placement("dismissed", f"{lasts}; expected {promised_s:.3f} s by its name")
    if candidate.is_in_whole_place() and reaches:
        return Placement("whole", f"{lasts}, in the folder of whole videos", 0.0)
    if fits:
        return Placement("cut", f"{lasts}, as long as its clip", start_s)
    if not reaches:
        expected = f"the clip ({wanted_s:.3f} s) or the video up to its end ({end_s:.3f} s)"
        return Placement("dismissed", f"{lasts}; expected {expected}")
    if start_s == 0:
        return Placement("whole", f"{lasts}, and its clip is the beginning", 0.0)
    if candidate.says_cut():
        why = f"{lasts}; its name (Y...) is that of a ready-cut clip, which has {wanted_s:.3f} s"
    elif duration_s >= WHOLE_FROM * wanted_s - tolerance_s:
        return Placement("whole", f"{lasts}, far longer than its clip", 0.0)
    else:
        why = f"{lasts}; the whole video, or the clip ({wanted_s:.3f} s) with something around it"
    return Placement("dismissed", f"{why}; name it by its times, <id>_<start>_<end>, or put it, whole, into {_PLACE}")


_PLACE = "/".join(WHOLE_PLACE)


def offset_in_video(
    candidate: Candidate,
    duration_s: Seconds,
    start_s: Seconds,
    end_s: Seconds | None,
    tolerance_s: Seconds = TOLERANCE_S,
) -> Seconds | None:
    """Compute where in the video a file begins, by its decoded length; None where it is not usable."""
    return placement(candidate, duration_s, start_s, end_s, tolerance_s).offset_s


def candidates(index: Index, video_id: str, start_s: Seconds, end_s: Seconds | None) -> tuple[Candidate, ...]:
    """List files that may hold a clip of a video, best first: by what the name says, then as searched."""
    found = []
    for position in range(bisect.bisect_left(index.videos, f"{video_id}/"), len(index.videos)):
        its_id, number, name = index.videos[position].split("/", 2)
        if its_id != video_id:
            break
        named = parse_name(name)
        fit = None if named is None else relation_to_clip(named, start_s, end_s)
        if fit is not None:
            kind, promised_s, begins_s = fit
            root, below = index.folders[int(number)]
            path = os.path.join(below, name)
            listed = listed_sum(root, path)
            found.append((_RANKS[kind], int(number), Candidate(Path(root, path), kind, promised_s, listed, begins_s)))
    return tuple(item for _, _, item in sorted(found, key=lambda ranked: (*ranked[:2], ranked[2].path)))


def first_verified(
    found: Sequence[Candidate],
    start_s: Seconds,
    end_s: Seconds | None,
    probe: Callable[[bytes], Seconds],
    tolerance_s: Seconds = TOLERANCE_S,
    known_length: Callable[[Candidate], Seconds | None] = lambda candidate: None,
) -> tuple[tuple[Candidate, Seconds] | None, tuple[str, ...]]:
    """Find the first file that decodes and fits, with its offset; note why each one before was passed over.

    Args:
        found: from `candidates`.
        start_s: of the clip in the video.
        end_s: of the clip in the video; None: the end of the video.
        probe: decodes a whole file and answers its length; raises DecodeError where it cannot.
        tolerance_s: see `offset_in_video`.
        known_length: answers the length of a file that was decoded before and has not changed since.
    """
    notes: list[str] = []
    for candidate in found:
        placed = decide(candidate, start_s, end_s, probe, tolerance_s, known_length)
        if placed.offset_s is not None:
            return (candidate, placed.offset_s), tuple(notes)
        # The name only: notes may reach a manifest, where paths of one machine mean nothing.
        notes.append(f"{candidate.path.name}: {placed.reason}")
    return None, tuple(notes)


def decide(
    candidate: Candidate,
    start_s: Seconds,
    end_s: Seconds | None,
    probe: Callable[[bytes], Seconds],
    tolerance_s: Seconds = TOLERANCE_S,
    known_length: Callable[[Candidate], Seconds | None] = lambda candidate: None,
) -> Placement:
    """Decode a file's length, where it is not known, and decide what the file is; see `first_verified`."""
    known_s = known_length(candidate)
    problem, duration_s = _length(candidate, probe) if known_s is None else ("", known_s)
    if problem:
        return Placement("dismissed", problem)
    return placement(candidate, duration_s, start_s, end_s, tolerance_s)


def _length(candidate: Candidate, probe: Callable[[bytes], Seconds]) -> tuple[str, Seconds]:
    """Decode a file's length; the text describes what is wrong with it, empty where nothing is."""
    try:
        if candidate.path.stat().st_size > MAX_FILE_BYTES:
            return f"larger than {MAX_FILE_BYTES} bytes", 0.0
        content = candidate.path.read_bytes()
        if candidate.sha256 not in (None, hashlib.sha256(content).hexdigest()):
            return "damaged: its sha256 is not that of SHA256SUMS", 0.0
        return "", probe(content)
    except (PermissionError, FileNotFoundError) as error:
        return str(error.strerror), 0.0
    except DecodeError as error:
        return str(error) or "not decodable", 0.0


def find_file(roots: tuple[str, ...], remote: RemoteFile, expected_sha256: str | None = None) -> OwnFile | None:
    """Find the user's copy of a source's remote file; None where there is none.

    A file of the right name comes first (in the mirror layout before others, then as searched);
    then, where a checksum is pinned, any file of the same type that has it.

    Args:
        roots: the user's folders.
        remote: what is looked for.
        expected_sha256: a digest that replaces the pins of `remote`.

    Raises:
        IntegrityError: there is a file of that name, but with another checksum, and no other fits.
        UsageError: a root is no folder.
    """
    if not roots:
        return None
    index = index_of(roots)
    sha256, md5 = (expected_sha256, None) if expected_sha256 else (remote.sha256, remote.md5)
    verified_by = "sha256" if sha256 else "md5" if md5 else "first use"
    problems = []
    named = _by_name(index, roots, remote.url)
    for root, path_below in named:
        path = os.path.join(root, path_below)
        blob = _hashed(path)
        listed = listed_sum(root, path_below)
        problem = mismatch(blob, listed, None) if listed else mismatch(blob, sha256, md5)
        if problem is None:
            return _own_file(path, blob, "own" if listed else verified_by)
        problems.append(f"{path}: {problem}" + (f" by {root}/SHA256SUMS" if listed else ""))
    if sha256 or md5:
        for root, path_below in _by_type(index, remote.url):
            path = os.path.join(root, path_below)
            if (root, path_below) not in named and mismatch(blob := _hashed(path), sha256, md5) is None:
                return _own_file(path, blob, verified_by)
    if problems:
        raise IntegrityError(
            f"--data-from: {'; '.join(problems)}. The file was damaged or is another version of {remote.url}: "
            "fetch it again, move it away, or, if you trust it, list it in a SHA256SUMS at the top of the folder"
        )
    return None


def _own_file(path: str, blob: Blob, verified_by: str) -> OwnFile:
    return OwnFile(Path(path), blob.sha256, blob.md5, blob.num_bytes, verified_by)


def _by_name(index: Index, roots: tuple[str, ...], url: str) -> list[tuple[str, str]]:
    parts = urlsplit(url)
    layout, wanted = f"{parts.netloc}{parts.path}", _base_name(url)
    found = [item for item in _others(index) if unicodedata.normalize("NFC", os.path.basename(item[1])) == wanted]
    return sorted(found, key=lambda item: (roots.index(item[0]), item[1] != layout))  # stable: else as searched


def _by_type(index: Index, url: str) -> list[tuple[str, str]]:
    """List files of the type of a remote file, those of a similar name first: hashing them all takes long."""
    wanted = _base_name(url)
    stem = wanted.split(".")[0].lower()
    found = [item for item in _others(index) if _family(item[1]) == _family(wanted)]
    return sorted(found, key=lambda item: stem not in os.path.basename(item[1]).lower())


def _others(index: Index) -> Iterator[tuple[str, str]]:
    """List (root, path below it) of files that are no audio."""
    for entry in index.others:
        number, _, name = entry.partition("/")
        root, below = index.folders[int(number)]
        yield root, os.path.join(below, name)


def _base_name(url: str) -> str:
    return unicodedata.normalize("NFC", unquote(PurePosixPath(urlsplit(url).path).name))


def _family(name: str) -> str:
    lowered = name.lower()
    return "tgz" if lowered.endswith((".tgz", ".tar.gz")) else lowered.rpartition(".")[2]


def _hashed(path: str) -> Blob:
    status = os.stat(path)
    return _hashed_as(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)
def _hashed_as(path: str, num_bytes: int, modified_ns: int) -> Blob:
    return hash_file(Path(path))
