"""Versions that a stranger made to do harm: a generator, the same for the same seed.

    for case in cases(seed=0): version = case.make(sound_version, folder)

A case is made from a sound version. `signed` ones are as a forger leaves them: row files have the sha256 that the
manifest says, and the folder is named after the digest of its manifest. Each says what it touches, and `refused_by`
says which commands look there and must refuse; the others have nothing to complain about.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tutti.datasets.manifest import canonical_json, digest_of, file_sha256, manifest_path

Json = Any
Touch = Callable[[Path, Path], None]  # version folder, folder of somebody else's files

VERIFIES = {"verify-manifest", "verify-shards", "verify-clips", "verify-repair", "verify-sources"}
READS_ROWS = {*VERIFIES, "info", "diff", "build-frozen", "build-parent"}
READS_SHARDS = {"verify-shards", "verify-clips", "export-csv", "export-huggingface", "relabel", "train"}
READS_FILES = {"verify-shards", "verify-clips", "verify-repair"}
EVERYTHING = READS_ROWS | READS_SHARDS | {"versions"}

SHARD = "data/train-00000-of-00001.parquet"
ELSEWHERE = "ELSEWHERE"  # in a value: the folder of somebody else's files
PATHS = (
    "/etc/passwd", f"{ELSEWHERE}/secret.parquet", "../../../elsewhere/secret.parquet", "data/../../../x.parquet",
    "data/./train-00000-of-00001.parquet", "data//train-00000-of-00001.parquet", "..\\..\\x.parquet", "~/x.parquet",
    f"{SHARD}\n", f"{SHARD}\0", "", "file:///etc/passwd", "data/" + "x" * 100_000, "manifest/clips/../../x.jsonl",
    "report/../../x", "C:\\x",
)  # fmt: skip
NAMES = ("../../x", "/x", "", "a/b", "..", "x\n", "-rf", "\u202e", "é", "x" * 101, 5, None, ["x"])
NUMBERS = (-1, 1.5, "5", True, None, 10**30, [], -(10**30), 1e300)


@dataclass(frozen=True)
class Case:
    """One hostile version."""

    name: str
    touch: Touch  # changes a copy of the sound version
    refused_by: frozenset[str]  # commands that must end with 2 or 3
    may_pass: frozenset[str] = frozenset()  # commands that may also end with 0: they mend it, or need not look there
    signed: bool = False
    rows: bool = False  # whether row files were changed, so that a signature must cover them

    def make(self, sound: Path, root: Path, elsewhere: Path) -> Path:
        """An output root with this version; answers the version folder."""
        version = root / "versions" / sound.name
        version.parent.mkdir(parents=True)
        shutil.copytree(sound, version)
        (root / "current").symlink_to(Path("versions") / version.name)
        self.touch(version, elsewhere)
        return self._sign(version, root) if self.signed else version

    def _sign(self, version: Path, root: Path) -> Path:
        path = manifest_path(version)
        if self.rows:
            content = json.loads(path.read_bytes())
            for bucket in content["clips"]:
                bucket["sha256"] = file_sha256(version / bucket["path"])
            path.write_text(canonical_json(content) + "\n")
        named = version.with_name(file_sha256(path)[:12])
        version.rename(named)
        (root / "current").unlink()
        (root / "current").symlink_to(Path("versions") / named.name)
        return named


def cases(seed: int) -> list[Case]:
    """All of them, in an order that the seed decides."""
    rng = random.Random(seed)
    found = [*_manifests(rng), *_texts(), *_rows(), *_row_files(), *_shards(), *_other_files(), *_folders()]
    rng.shuffle(found)
    return found


# --- manifest.json as JSON


def _set(path: str, value: Json, content: Json) -> None:
    *parents, name = path.split("/")
    for parent in parents:
        content = content[int(parent) if isinstance(content, list) else parent]
    content[int(name) if isinstance(content, list) else name] = value


def _edit(change: Callable[[Json], None], version: Path, elsewhere: Path) -> None:
    path = manifest_path(version)
    content = json.loads(path.read_bytes())
    change(content)
    content = json.loads(json.dumps(content).replace(ELSEWHERE, str(elsewhere)))
    if isinstance(content.get("recipe"), dict):
        content["recipe_sha256"] = digest_of(content["recipe"])
    path.write_text(canonical_json(content) + "\n")


def _both(name: str, change: Callable[[Json], None], refused_by: set[str] = EVERYTHING) -> Iterator[Case]:
    yield Case(f"{name}, signed", partial(_edit, change), frozenset(refused_by), signed=True)
    yield Case(name, partial(_edit, change), frozenset(refused_by | VERIFIES))


def _manifests(rng: random.Random) -> Iterator[Case]:
    for owner in ("shards/0", "clips/0", "files/0"):
        for path in PATHS:
            yield from _both(f"{owner}/path={path[:40]!r}", partial(_set, f"{owner}/path", path))
    for name in NAMES:
        yield from _both(f"dataset={str(name)[:20]!r}", partial(_named, name))
    for value in ([], ["cello"], ["cello", "cello", "flute"], ["../x"], ["a b"], "cello", {"a": 1}, [["cello"]], [5]):
        yield from _both(f"instruments={value!r}", partial(_set, "instruments", value))
    yield from _both("100,000 instruments", partial(_set, "instruments", [f"x{n}" for n in range(100_000)]))
    for path in ("shards/0/num_rows", "shards/0/num_bytes", "clips/0/num_rows", "counts/kept", "counts/splits/train"):
        for number in rng.sample(NUMBERS, 3):
            if path != "counts/kept" or number != 12:
                yield from _both(f"{path}={number!r}", partial(_set, path, number))
    for path, value in (
        ("schema_version", 3), ("schema_version", "2"), ("schema_version", [2]), ("mirrored", "no"),
        ("shards/0/split", "../x"), ("shards/0/sha256", "../x"), ("shards/0/extra", 1), ("shards", {}),
        ("sources/folder/homepage", "javascript:alert(1)"), ("sources/folder/title", 5), ("sources/x y", {}),
        ("counts/rejected", {"x": "y"}), ("counts/sources", {"../x": {"kept": 1, "reasons": {}, "splits": {}}}),
        ("counts/present/train", {}), ("counts/splits", {"train": 12}), ("split_certificate", [1]),
        ("parent", {"version": "../x"}), ("parent", 5), ("release", "1.0"), ("release", "9" * 5_000 + ".0.0"),
        ("incomplete", {}), ("incomplete", {"out_of_memory": 0}), ("incomplete", {"../x": 1}), ("incomplete", [1]),
        ("curation", []), ("curation/embedder", 5), ("tools", {"../x": "1"}), ("tools", {"numpy": 5}), ("files", {}),
        ("root_digest", "x"), ("split_digest", None), ("recipe/name", "other"), ("recipe/seed", 10**30),
        ("recipe/sources", {"../../x": {}}), ("recipe/instruments", 5), ("recipe/prepare/sample_rate", 10**9),
        ("recipe/prepare", []), ("recipe/write/rows_per_group", 0), ("recipe/write/rows_per_shard", "many"),
        ("clips", ["x"]),
    ):  # fmt: skip
        yield from _both(f"{path}={str(value)[:40]}", partial(_set, path, value))
    required = ("dataset", "instruments", "recipe", "sources", "counts", "shards", "clips", "root_digest", "tools")
    for name in required:
        yield from _both(f"lacks {name}", partial(_drop, name))
        value = rng.choice([None, 5, "x", [], [[]], True])
        yield from _both(f"{name}={value!r}", partial(_set, name, value))
    yield from _both("a shard twice", lambda content: content["shards"].append(content["shards"][0]))
    yield from _both("a row file twice", lambda content: content["clips"].append(content["clips"][0]))
    yield from _both("no shards", lambda content: content["shards"].clear())
    for path, value in (
        ("recipe/sources/folder/root", "/etc"), ("recipe/clean/min_duration_s", "long"), ("recipe/clean", 5),
        ("recipe/select/exclude", "x"), ("recipe/select/limit", 0), ("recipe/extra", 1), ("recipe/split/rules", [1]),
        ("recipe/split/splitter", "mine"), ("recipe/outliers/fit/folds", [[]]), ("recipe/embed/folder", "/etc"),
        ("recipe/clean/overrides", [{"id": 5}]), ("recipe/max_errors", "all"),
        ("recipe/drift", {"gone": -1}), ("recipe/prepare/target_lufs", None), ("recipe/curate/drop", ["train"]),
    ):  # fmt: skip
        # Only a rebuild reads the whole recipe.
        yield from _both(f"{path}={value!r}", partial(_set, path, value), {"build-frozen"})


def _named(name: Json, content: Json) -> None:
    content["dataset"] = content["recipe"]["name"] = name


def _drop(name: str, content: Json) -> None:
    del content[name]


# --- manifest.json as text


def _texts() -> Iterator[Case]:
    def rewrite(change: Callable[[bytes], bytes], version: Path, _: Path) -> None:
        manifest_path(version).write_bytes(change(manifest_path(version).read_bytes()))

    changes: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda raw: b"",
        "a list": lambda raw: b"[]",
        "null": lambda raw: b"null",
        "deep lists": lambda raw: b"[" * 100_000,
        "deep lists that end": lambda raw: b"[" * 900 + b"]" * 900,
        "a deep field": lambda raw: raw.replace(b"{", b'{"a":' + b"[" * 200 + b"]" * 200 + b",", 1),
        "deep objects": lambda raw: b'{"a":' * 50_000,
        "cut": lambda raw: raw[: len(raw) // 2],
        "UTF-16": lambda raw: raw.decode().encode("utf-16"),
        "no UTF-8": lambda raw: raw.replace(b'"folder"', b'"\xff\xfe"'),
        "a byte order mark": lambda raw: b"\xef\xbb\xbf" + raw,
        "half a character": lambda raw: raw.replace(b'"title":"', b'"title":"\\ud800'),
        "NaN": lambda raw: raw.replace(b'"seed":0', b'"seed":NaN'),
        "an infinite number": lambda raw: raw.replace(b'"seed":0', b'"seed":1e999'),
        "a number of 100,000 digits": lambda raw: raw.replace(b'"seed":0', b'"seed":' + b"1" * 100_000),
        "a key twice": lambda raw: raw.replace(b'"mirrored":', b'"mirrored":true,"mirrored":'),
        "40 MB of spaces": lambda raw: raw + b" " * 40_000_000,
        "a million objects": lambda raw: b"[" + b"{}," * (1 << 20) + b"{}]",
        "ten million numbers": lambda raw: b"[" + b"0," * 10_000_000 + b"0]",
    }
    for name, change in changes.items():
        yield Case(f"manifest.json: {name}, signed", partial(rewrite, change), frozenset(EVERYTHING), signed=True)
        yield Case(f"manifest.json: {name}", partial(rewrite, change), frozenset(EVERYTHING))


# --- rows


def _first_rows(version: Path) -> Path:
    return min(version.glob("manifest/clips/*.jsonl"))


def _edit_row(change: Callable[[Json], None], version: Path, _: Path) -> None:
    path = _first_rows(version)
    fields = json.loads(path.read_bytes().split(b"\n")[0])
    change(fields)
    path.write_text(json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n")


def _edit_rows(change: Callable[[bytes], bytes], version: Path, _: Path) -> None:
    path = _first_rows(version)
    path.write_bytes(change(path.read_bytes()))


def _rows() -> Iterator[Case]:
    values: tuple[tuple[str, Json], ...] = (
        ("id", "../../x@0"), ("id", "folder/a"), ("id", 5), ("id", "folder/a@" + "9" * 400), ("source", "other"),
        ("split", "dev"), ("split", ["train"]), ("status", "lost"), ("status", ["kept"]), ("status", "gone"),
        ("audio", None), ("audio", []), ("audio", {}), ("audio", "x"), ("audio/0", "../x"), ("audio/0", 5),
        ("audio/4", 0), ("audio/4", 10**300), ("audio/5", -1), ("audio/5", 10**30), ("audio/5", 1.5), ("audio/7", 5),
        ("audio/8", "sh"), ("audio/9", "loud"), ("audio/12", 2), ("start_s", "0"), ("start_s", 10**400), ("end_s", []),
        ("labels", []), ("labels", {"human": "+kazoo"}), ("labels", {"human": "+../x"}), ("labels", {"human": 5}),
        ("labels", {"cello": [2, None, "human"]}), ("labels", {"cello": [1, 1.5, "human"]}), ("labels", {"x y": "+a"}),
        ("labels", {"me": "+cello"}), ("license", ""), ("license", 5), ("group", None), ("quality", 2), ("more", 1),
        ("recording", {"a": 1}), ("num_notes", -1), ("notes_sha256", "x"), ("alignment", 5), ("acquired", "stolen"),
    )  # fmt: skip
    edits: dict[str, Touch] = {
        f"{name}={str(value)[:40]}": partial(_edit_row, partial(_set, name, value)) for name, value in values
    }
    texts: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda raw: b"",
        "zeros": lambda raw: bytes(30_000_000),
        "a million empty lines": lambda raw: b"\n" * 1_000_000,
        "deep": lambda raw: b"[" * 500_000 + b"\n",
        "a deep value": lambda raw: raw.replace(b"{", b'{"detail":' + b"[" * 900 + b"]" * 900 + b",", 1),
        "no UTF-8": lambda raw: b'{"id":"\xff"}\n',
        "half a character": lambda raw: raw.replace(b'"group":"', b'"group":"\\ud800'),
        "a key twice": lambda raw: raw.replace(b"{", b'{"split":"test",', 1),
        "a long line": lambda raw: raw.replace(b'"license":"', b'"license":"' + b"x" * 2_000_000),
        "NaN": lambda raw: raw.replace(b"{", b'{"quality":NaN,', 1),
        "an infinite number": lambda raw: raw.replace(b"{", b'{"quality":1e999,', 1),
        "a number of 100,000 digits": lambda raw: raw.replace(b"{", b'{"quality":' + b"1" * 100_000 + b",", 1),
        "cut": lambda raw: raw[:-20],
        "every line twice": lambda raw: raw * 2,
        "other lines": lambda raw: b"[1]\n",
    }
    edits |= {name: partial(_edit_rows, change) for name, change in texts.items()}
    for name, touch in edits.items():
        yield Case(f"rows: {name}, signed", touch, frozenset(READS_ROWS), signed=True, rows=True)
        yield Case(f"rows: {name}", touch, frozenset(READS_ROWS))


# --- what is no regular file, no file of this version, or has no end


def _replace(relative: str, make: Callable[[Path, Path], None], version: Path, elsewhere: Path) -> None:
    path = _first_rows(version) if relative == "rows" else version / relative
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path, elsewhere)


def _sparse(path: Path, _: Path) -> None:
    with path.open("wb") as stream:
        stream.write(b"PAR1")
        stream.truncate(1 << 40)
        stream.seek(0, os.SEEK_END)
        stream.write(b"PAR1")


IRREGULAR: dict[str, Callable[[Path, Path], None]] = {
    "is a pipe": lambda path, _: os.mkfifo(path),
    "is a folder": lambda path, _: path.mkdir(),
    "is /dev/zero": lambda path, _: path.symlink_to("/dev/zero"),
    "is a link to itself": lambda path, _: path.symlink_to(path.name),
    "has a terabyte of holes": _sparse,
    "is gone": lambda path, _: None,
}


def _outside(name: str) -> Callable[[Path, Path], None]:
    return lambda path, elsewhere: path.symlink_to(elsewhere / name)


def _irregular(relative: str, outside: str, refused_by: set[str], may_pass: set[str] = frozenset()) -> Iterator[Case]:  # type: ignore[assignment]
    kinds = {**IRREGULAR, "is a link out of the version": _outside(outside), "is a link to a pipe": _outside("pipe")}
    for name, make in kinds.items():
        touch = partial(_replace, relative, make)
        yield Case(f"{relative} {name}", touch, frozenset(refused_by - may_pass), frozenset(may_pass))


def _row_files() -> Iterator[Case]:
    yield from _irregular("rows", "secret.jsonl", READS_ROWS)
    yield from _irregular("manifest/clips", ".", READS_ROWS)


def _shards() -> Iterator[Case]:
    yield from _irregular(SHARD, "secret.parquet", READS_SHARDS, {"verify-repair", "diff"})
    yield from _irregular("data", ".", READS_SHARDS, {"verify-repair", "diff"})
    for name, change in {
        "cut": lambda raw: raw[:-500],
        "empty": lambda raw: b"",
        "longer": lambda raw: raw + b"x",
        "noise": lambda raw: random.Random(0).randbytes(len(raw)),
        "noise in a frame": lambda raw: b"PAR1" + random.Random(0).randbytes(len(raw) - 8) + b"PAR1",
        "zeros": lambda raw: bytes(len(raw)),
    }.items():  # type: ignore[var-annotated]
        touch = partial(_rewrite_shard, change)
        yield Case(f"{SHARD}: {name}", touch, frozenset(READS_SHARDS), frozenset({"verify-repair"}))
        forged = partial(_forge_shard, change)
        mend = frozenset({"verify-repair"})
        yield Case(f"{SHARD}: {name}, signed", forged, frozenset(READS_SHARDS), mend, signed=True)


def _rewrite_shard(change: Callable[[bytes], bytes], version: Path, _: Path) -> None:
    (version / SHARD).write_bytes(change((version / SHARD).read_bytes()))


def _forge_shard(change: Callable[[bytes], bytes], version: Path, elsewhere: Path) -> None:
    _rewrite_shard(change, version, elsewhere)
    path = manifest_path(version)
    content = json.loads(path.read_bytes())
    (info,) = (info for info in content["shards"] if info["path"] == SHARD)
    info |= {"num_bytes": (version / SHARD).stat().st_size, "sha256": file_sha256(version / SHARD)}
    path.write_text(canonical_json(content) + "\n")


def _other_files() -> Iterator[Case]:
    yield from _irregular("README.md", "secret.jsonl", READS_FILES)
    yield from _irregular("croissant.json", "secret.jsonl", READS_FILES)
    yield from _irregular("manifest/manifest.json", "manifest.json", EVERYTHING)


def _folders() -> Iterator[Case]:
    def deep(version: Path, _: Path) -> None:
        here = os.open(version, os.O_RDONLY)
        for _number in range(3_000):  # deeper than any path reaches
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)

    def strays(version: Path, _: Path) -> None:
        for number in range(3_000):
            (version / "data" / f"stray-{number}").write_bytes(b"")

    def points(target: str, version: Path, elsewhere: Path) -> None:
        link = version.parent.parent / "current"
        link.unlink()
        link.symlink_to(target.replace(ELSEWHERE, str(elsewhere)))

    yield Case("folders without end", deep, frozenset(READS_FILES))
    yield Case("3,000 files of nobody", strays, frozenset(READS_FILES))
    for target in (f"{ELSEWHERE}/version", "../../..", "current", "/dev/zero", "versions/nowhere"):
        # `versions list` reads the folder `versions` itself.
        yield Case(f"current points to {target}", partial(points, target), frozenset(EVERYTHING - {"versions"}))
