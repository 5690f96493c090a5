"""Variants of a mirror for tests: damaged, or with everything in another order."""

import gzip
import hashlib
import io
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tutti.datasets.archive import repair_name

IRMAS_TRAIN = "zenodo.org/records/1290750/files/IRMAS-TrainingData.zip"
IRMAS_TEST1 = "zenodo.org/records/1290750/files/IRMAS-TestingData-Part1.zip"
OPENMIC = "zenodo.org/records/1432913/files/openmic-2018-v1.0.0.tgz"
AUDIOSET_EVAL = "storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/eval_segments.csv"


def copy_mirror(source: Path, target: Path) -> Path:
    """A copy; no hard links, which would change the times of files that a build of another test reads just then."""
    shutil.copytree(source, target)
    return target


def replace_file(mirror: Path, name: str, content: bytes, *, list_it: bool = True) -> None:
    """Put other bytes at a path of the mirror, and say so in its SHA256SUMS unless told not to."""
    path = mirror / name
    path.unlink()
    path.write_bytes(content)
    if list_it:
        sums = mirror / "SHA256SUMS"
        lines = [line for line in sums.read_text().splitlines() if not line.endswith(f"  {name}")]
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}")
        sums.unlink()
        sums.write_text("\n".join(sorted(lines)) + "\n")


def rezip(
    content: bytes, change: Callable[[str, bytes], bytes] = lambda _, data: data, seed: int | None = None
) -> bytes:
    """The same zip with members changed, and in another order if there is a seed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        members = old.infolist()
        if seed is not None:
            random.Random(seed).shuffle(members)
        for info in members:
            new.writestr(repair_name(info), change(info.filename, old.read(info)))
    return out.getvalue()


def retar(
    content: bytes, change: Callable[[str, bytes], bytes] = lambda _, data: data, seed: int | None = None
) -> bytes:
    """The same .tgz with members changed, and in another order if there is a seed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, gzip.open(out, "wb") as packed:
        members = [(info, old.extractfile(info)) for info in old if info.isreg()]
        if seed is not None:
            random.Random(seed).shuffle(members)
        with tarfile.open(fileobj=packed, mode="w") as new:
            for info, stream in members:
                assert stream is not None
                data = change(info.name, stream.read())
                info.size = len(data)
                new.addfile(info, io.BytesIO(data))
    return out.getvalue()


def shuffle_lines(content: bytes, seed: int) -> bytes:
    """A segment list with its rows in another order, its comments first as ever."""
    lines = content.decode().splitlines(keepends=True)
    rows = [line for line in lines if not line.startswith("#")]
    random.Random(seed).shuffle(rows)
    return "".join([line for line in lines if line.startswith("#")] + rows).encode()


def shuffled_mirror(source: Path, target: Path, seed: int) -> Path:
    """A mirror whose archives and lists hold the same in another order."""
    mirror = copy_mirror(source, target)
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.suffix == ".zip":
            replace_file(mirror, name, rezip(path.read_bytes(), seed=seed))
        elif path.suffix == ".tgz":
            replace_file(mirror, name, retar(path.read_bytes(), seed=seed))
        elif path.name.endswith("_segments.csv"):
            replace_file(mirror, name, shuffle_lines(path.read_bytes(), seed))
    return mirror
