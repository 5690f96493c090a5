"""Digests of our own code: of what decides a dataset, and of what an embedder computes with.

Which files these are is read from their imports, late ones too, so there is no list that a new file can be missing
from. The imports are found by pattern: to parse the files would take half a second of every build. A line of a
docstring that looks like an import counts as one: a file too many, never one too few.
"""

import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tutti import ROOMS

ROOT = Path(__file__).resolve().parents[2]
BUILD = "pipelines.build.__main__"
# What an embedder asks for names, digests and errors: no number of an embedding comes from these or what they import.
NO_ARITHMETIC = frozenset({"datasets.addresses", "datasets.environment", "datasets.errors", "datasets.manifest"})

_DATA = (".html", ".json", ".safetensors")  # that modules read from beside themselves
_IMPORT = re.compile(r"\n *(?:from ([\w.]+) import (\([^)]*\)|.*)|import (.*))")
_QUOTED = re.compile(rf"[\"']((?:tutti\.)?(?:{'|'.join(ROOMS)})\.[\w.]+)(?=[\"'{{])")
_COMMENT = re.compile(r"#.*")
_PATH = re.compile(rf"(?:{'|'.join(ROOMS)})(?:/\w+)+\.\w+")


@functools.cache
def code_files() -> tuple[str, ...]:
    """List what a build runs or reads of ours, as paths below the root."""
    data = [path for path in _listing() if path.endswith(_DATA)]
    return tuple(sorted([*_closure(BUILD, frozenset()), *data]))


@functools.cache
def code_digest(files: tuple[str, ...] | None = None) -> str:
    """Digest files of ours as they are when a process asks first; by default `code_files()`.

    As long as their contents are what they were, these files are what a build runs: their imports stand in them.

    Args:
        files: paths below the root, as `code_files` lists them; whoever keeps such a list is not believed.

    Raises:
        OSError: one is not there.
        ValueError: it is no such list: another path, one twice, or out of order.
    """
    files = code_files() if files is None else files
    if not all(map(_PATH.fullmatch, files)) or list(files) != sorted(set(files)):
        raise ValueError("no list of our code files")
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path}\n".encode())
        digest.update(_content(path))
    return digest.hexdigest()


@functools.cache
def arithmetic_digest(module: str) -> str:
    """Digest the files that a module of ours computes with: itself, and what it imports but for `NO_ARITHMETIC`."""
    return code_digest(tuple(_closure(module, NO_ARITHMETIC)))


@functools.cache
def _listing() -> frozenset[str]:
    """List all files of our packages."""
    found = []
    for package in ROOMS:
        for folder, _, names in os.walk(ROOT / package):
            below = os.path.relpath(folder, ROOT).replace(os.sep, "/")
            found += [f"{below}/{name}" for name in names if name.endswith((".py", *_DATA))]
    return frozenset(found)


def _content(path: str) -> bytes:
    return (ROOT / path).read_bytes()


def _closure(module: str, without: frozenset[str]) -> list[str]:
    waiting, found = [_plain(module)], set[str]()
    seen = {*waiting, *map(_plain, without)}
    while waiting:
        for path in _files(waiting.pop()):
            if path not in found:
                found.add(path)
                new = set(_imports(path)) - seen
                seen |= new
                waiting += new
    return sorted(found)


def _files(name: str) -> list[str]:
    """List the files of a module or package; of a package whose name ends with a dot, all its modules."""
    base, listed = name.replace(".", "/"), _listing()
    if name.endswith("."):
        return [
            path for path in listed if path.startswith(base) and path.endswith(".py") and "/" not in path[len(base) :]
        ]
    return [path for path in (f"{base}.py", f"{base}/__init__.py") if path in listed]


def _imports(path: str) -> Iterator[str]:
    """Yield modules of ours that a file imports, or names as text; some are attributes of one."""
    text = "\n" + _content(path).decode()
    for package, names, modules in _IMPORT.findall(text):
        if package:
            yield from _with_names(_plain(package), _COMMENT.sub("", names).strip("() \n"))
        else:
            yield from (_plain(part.split()[0]) for part in _COMMENT.sub("", modules).split(",") if part.strip())
    yield from map(_plain, _QUOTED.findall(text))


def _with_names(package: str, names: str) -> Iterator[str]:
    if package.partition(".")[0] in ROOMS:
        yield package
        yield from (f"{package}.{part.split()[0]}" for part in names.split(",") if part.strip())


def _plain(name: str) -> str:
    return name.removeprefix("tutti.")
