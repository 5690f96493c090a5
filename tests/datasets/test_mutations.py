"""Thousands of ways to damage a manifest and its rows: errors of our own, or a value that the schema allows.

`TUTTI_MUTATIONS=5000` sets how many of each; the same seed gives the same ones.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mutations import mutated
from rows import clip, human

from tutti.datasets.clip_line import decode, encode, unpack
from tutti.datasets.clip_types import fits
from tutti.datasets.errors import TuttiError
from tutti.datasets.manifest import canonical_json, clip_row, file_sha256, manifest_path, read_manifest, version_folder
from tutti.datasets.manifest_schema import row_problems
from tutti.datasets.record import Label, Rejected
from tutti.pipelines.diff.compare import compare
from tutti.pipelines.diff.report import text
from tutti.pipelines.info import describe
from tutti.pipelines.info import text as info_text
from tutti.pipelines.lineage import known_splits
from tutti.pipelines.recipe import recipe_from_json
from tutti.pipelines.stages.frozen import _shard_starts, bucket_names, listed_shards
from tutti.pipelines.verify.check import verify

COUNT = int(os.environ.get("TUTTI_MUTATIONS", "150"))
CLASSES = ("cello", "flute")
LINES = [
    encode(row).encode()
    for row in (
        clip_row(clip("folder/a@0", labels=human(cello=1, flute=0), split="train", end_s=9.5, quality=0.5), CLASSES),
        clip_row(clip("folder/b@1500", labels={"cello": Label(1, "crowd", 0.75)}, split="test"), CLASSES),
        clip_row(Rejected(clip("folder/c@0"), stage="clean", reason="silent", value=0.9, detail="x"), CLASSES),
        clip_row(Rejected(clip("folder/d@0", audio=None), "download", "error:fetch", status="gone"), CLASSES),
        clip_row(clip("folder/e@0", split="validation", acquired="own"), CLASSES)
        | {"num_notes": 3, "notes_sha256": "0" * 64, "alignment": {"delay_s": 0.5, "score": 0.9}},
        clip_row(clip("folder/f@0", split="train"), CLASSES)
        | {"track": {"song": "one", "stem": "S01", "bleed": True}, "track_sha256": "0" * 64},
    )
]


def allowed(action: Callable[[], Any]) -> bool:
    """Carry out; False where it ends in an error of our own. Any other error is the test's failure."""
    try:
        action()
    except TuttiError as error:
        return "\n" in str(error) and pytest.fail(f"more than one line: {error}")
    return True


def everything_read(version: Path, sound: Any) -> None:
    """What commands do with a version, apart from its shards."""
    manifest = read_manifest(version)
    info_text(describe(manifest))
    text(compare(sound, manifest))
    known_splits(version)
    bucket_names(version)
    listed_shards(version)
    _shard_starts.cache_clear()
    _shard_starts(version)


def read_and_verify(version: Path) -> None:
    verify(read_manifest(version), "manifest")


@pytest.fixture
def version(songs_build: Path, tmp_path: Path) -> Path:
    """A version without its shards, in a folder whose name promises nothing."""
    source = version_folder(songs_build / "out")
    version = tmp_path / "versions" / "loose"
    shutil.copytree(source / "manifest", version / "manifest")
    return version


def test_a_mutated_line_is_an_error_of_ours_or_a_row_that_the_schema_allows() -> None:
    rng, read = random.Random(0), 0
    for number in range(COUNT):
        line = mutated(LINES[number % len(LINES)], rng)
        try:
            row = decode(line)
        except ValueError:
            continue
        read += 1
        assert row_problems(row) == [], line
        assert row_problems(decode(encode(row).encode())) == []
    assert 0 < read < COUNT


def test_rows_are_judged_by_hand_as_by_the_schema() -> None:
    rng = random.Random(1)
    verdicts = set()
    for number in range(COUNT):
        row = unpack(LINES[number % len(LINES)])
        try:
            row = json.loads(mutated(json.dumps(row).encode(), rng))
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            assert fits(row) == (row_problems(row) == []), row
            verdicts.add(fits(row))
    assert verdicts == {True, False}


def test_a_mutated_manifest_is_an_error_of_ours_or_read_to_its_end(version: Path, songs_build: Path) -> None:
    rng, sound, raw = random.Random(2), read_manifest(songs_build / "out"), manifest_path(version).read_bytes()
    outcomes = set()
    for _ in range(COUNT):
        changed = mutated(raw, rng)
        manifest_path(version).write_bytes(changed)
        outcomes.add(allowed(lambda: everything_read(version, sound)))
        outcomes.add(allowed(lambda: recipe_from_json(read_manifest(version).content["recipe"])))
        allowed(partial(read_and_verify, version))
        named = version.with_name(file_sha256(manifest_path(version))[:12])
        version.rename(named)  # as a forger leaves it
        allowed(partial(read_and_verify, named))
        named.rename(version)
    assert outcomes == {True, False}


def test_a_mutated_file_of_rows_is_found_or_read_to_its_end(version: Path, songs_build: Path) -> None:
    rng, sound = random.Random(3), read_manifest(songs_build / "out")
    content = json.loads(manifest_path(version).read_bytes())
    path = version / content["clips"][0]["path"]
    raw = path.read_bytes()
    outcomes = set()
    for _ in range(COUNT):
        lines = raw.split(b"\n")
        place = rng.randrange(len(lines) - 1)
        lines[place] = mutated(lines[place], rng)
        path.write_bytes(b"\n".join(lines) if rng.random() < 0.8 else mutated(raw, rng))
        manifest_path(version).write_text(canonical_json(content) + "\n")
        changed = path.read_bytes() != raw
        found = [finding for finding in verify(read_manifest(version), "manifest") if finding.path.endswith(path.name)]
        assert bool(found) == changed
        assert allowed(lambda: everything_read(version, sound)) != changed

        signed = {**content["clips"][0], "sha256": file_sha256(path), "num_rows": path.read_bytes().count(b"\n")}
        forged = {**content, "clips": [signed, *content["clips"][1:]]}
        manifest_path(version).write_text(canonical_json(forged) + "\n")
        verify(read_manifest(version), "manifest")
        outcomes.add(allowed(lambda: everything_read(version, sound)))
    assert False in outcomes
