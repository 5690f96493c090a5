"""The JSON Schema: what a build writes is valid, what it could not have written is not."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from rows import clip, human, stored

from tutti.datasets.manifest import clip_row, read_manifest
from tutti.datasets.manifest_schema import manifest_problems, row_problems, schema
from tutti.datasets.record import Label, Rejected

CLASSES = ("cello", "flute")
ROW = clip_row(clip(labels=human(cello=1), split="train", end_s=3.0, quality=0.5, acquired="full"), CLASSES)
REJECTED = clip_row(
    Rejected(clip(labels=human(cello=1)), stage="clean", reason="silent", value=0.9, detail="x"), CLASSES
)


@pytest.fixture(scope="module")
def content(sample_build: Path) -> dict[str, Any]:
    return dict(read_manifest(sample_build).content)


def test_the_schema_itself_is_valid() -> None:
    Draft202012Validator.check_schema(schema())


def test_the_manifest_and_all_rows_of_a_build_are_valid(sample_build: Path, content: dict[str, Any]) -> None:
    assert manifest_problems(content) == []
    assert {problem for row in read_manifest(sample_build).clip_rows() for problem in row_problems(row)} == set()


@pytest.mark.parametrize(
    "row",
    [
        clip_row(clip(audio=None), CLASSES) | {"status": "gone", "stage": "download", "reason": "error:fetch"},
        clip_row(Rejected(clip(audio=stored(loudness_lufs=None, true_peak_dbtp=None)), "clean", "silent"), CLASSES),
        clip_row(clip(labels={"cello": Label(0, "pseudo:c22f", 0.25)}, split="test"), CLASSES),
        REJECTED,
    ],
    ids=["gone", "digital silence", "pseudo-label", "rejected"],
)
def test_every_kind_of_row_is_valid(row: dict[str, Any]) -> None:
    row = {key: value for key, value in row.items() if not (row["status"] == "gone" and key == "split")}

    assert row_problems(row) == []


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("id", "no source", "id: 'no source' does not match"),
        ("split", "dev", "split: 'dev' is not one of"),
        ("status", "lost", "status: 'lost' is not one of"),
        ("start_s", -1, "start_s: -1 is less than the minimum of 0"),
        ("quality", 1.5, "quality: 1.5 is greater than the maximum of 1"),
        ("audio.pcm_sha256", "A" * 64, "audio.pcm_sha256: "),
        ("audio.num_samples", 1.5, "audio.num_samples: 1.5 is not of type 'integer'"),
        ("labels.cello", [2, None, "human"], "labels.cello.0: 2 is not one of [0, 1]"),
        ("labels.cello", [1, None], "labels.cello: [1, None] is too short"),
        ("labels.cello", [1, None, "me"], "labels.cello.2: 'me' does not match"),
        ("note", "hello", "the object: Additional properties are not allowed ('note' was unexpected)"),
    ],
)
def test_a_wrong_value_of_a_row_is_named(path: str, value: Any, problem: str) -> None:
    row = copy.deepcopy(ROW)
    *parents, name = path.split(".")
    owner = row
    for parent in parents:
        owner = owner[parent]
    owner[name] = value

    assert any(found.startswith(problem) for found in row_problems(row))


@pytest.mark.parametrize(
    "name", ["id", "source", "recording", "group", "license", "labels", "status", "split", "audio"]
)
def test_a_kept_row_needs_its_fields(name: str) -> None:
    assert any(
        f"'{name}' is a required property" in found
        for found in row_problems({k: v for k, v in ROW.items() if k != name})
    )


def test_a_kept_row_has_no_reason_and_a_rejected_one_no_split() -> None:
    assert row_problems(ROW | {"reason": "silent"}) != []
    assert row_problems(REJECTED | {"split": "train"}) != []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("root_digest", "short"),
        ("instruments", []),
        ("mirrored", "no"),
        ("counts.kept", -1),
        ("shards.0.path", "/etc/passwd"),
        ("clips.0.sha256", None),
        ("sources.irmas.files.0.verified_by", "luck"),
        ("split_certificate.groups_in_two_splits", 1),
        ("schema_version", 3),
        ("tools", {}),
    ],
)
def test_a_wrong_value_of_the_manifest_is_named_by_its_path(content: dict[str, Any], path: str, value: Any) -> None:
    changed = json.loads(json.dumps(content))
    *parents, name = path.split(".")
    owner: Any = changed
    for parent in parents:
        owner = owner[int(parent) if isinstance(owner, list) else parent]
    owner[name] = value

    problems = manifest_problems(changed)
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["recipe", "sources", "counts", "shards", "clips", "root_digest", "split_digest"])
def test_a_manifest_needs_its_fields(content: dict[str, Any], name: str) -> None:
    without = {key: value for key, value in content.items() if key != name}

    assert manifest_problems(without) == [f"the object: '{name}' is a required property"]


def test_a_later_version_may_say_more(content: dict[str, Any]) -> None:
    assert manifest_problems({**content, "weather": "fine"}) == []
