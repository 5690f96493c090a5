"""What differs between two versions: every kind of change, counted where it happened."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rows import clip, stored
from whole_manifest import manifest_content

from tutti.datasets.clip_line import encode
from tutti.datasets.manifest import (
    Manifest,
    bucket_of,
    canonical_json,
    clip_row,
    clips_path,
    file_sha256,
    manifest_path,
    read_manifest,
    root_digest,
)
from tutti.datasets.record import Label, Rejected
from tutti.pipelines.diff.__main__ import main
from tutti.pipelines.diff.compare import compare
from tutti.pipelines.diff.difference import Balance, Changed, Moved, Relabelled, Resplit, Setting, drift
from tutti.pipelines.diff.report import markdown, text

CLASSES = ("cello", "flute")


def kept(
    name: str, split: str = "train", *, pcm: str = "a", native: str = "e", sketch: str = "", **labels: Any
) -> dict[str, Any]:
    """A kept row; without a sketch, as early versions have it, unless one is given."""
    said = {key: value if isinstance(value, Label) else Label(value, "human") for key, value in labels.items()}
    audio = stored(pcm_sha256=pcm * 64, native_sha256=native * 64)
    row = clip_row(clip(f"irmas/{name}@0", split=split, labels=said, audio=audio), CLASSES)
    del row["audio"]["sketch"]
    row["audio"] |= {"sketch": sketch} if sketch else {}
    return row


def lost(name: str, reason: str = "removed", status: str = "gone") -> dict[str, Any]:
    return clip_row(Rejected(clip(f"irmas/{name}@0", audio=None), "download", reason, status=status), CLASSES)


def version(folder: Path, rows: Iterable[Mapping[str, Any]], **content: Any) -> Manifest:
    """A manifest on disk with these rows."""
    rows = sorted(rows, key=lambda row: row["id"])
    buckets: dict[str, list[str]] = {}
    for row in rows:
        buckets.setdefault(clips_path(bucket_of(row["id"])), []).append(encode(row) + "\n")
    for path, lines in buckets.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("".join(lines), encoding="utf-8")
    files = [
        {"path": path, "num_rows": len(lines), "sha256": file_sha256(folder / path)}
        for path, lines in sorted(buckets.items())
    ]
    said = manifest_content((), CLASSES, ["irmas"], dataset="small", root_digest=root_digest(rows), clips=files)
    said["tools"] = {"numpy": "2.4.6"}
    said["recipe"]["clean"] = {"min_duration_s": 1.0}
    said |= content
    manifest_path(folder).parent.mkdir(parents=True, exist_ok=True)
    manifest_path(folder).write_text(canonical_json(said) + "\n", encoding="utf-8")
    return read_manifest(folder)


@dataclass
class Pair:
    folder: Path

    def __call__(self, before: list[Any], after: list[Any], same_sound: Any = None, **content: Any) -> Any:
        return compare(version(self.folder / "a", before), version(self.folder / "b", after, **content), same_sound)


@pytest.fixture
def differ(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_a_version_does_not_differ_from_itself(differ: Pair) -> None:
    rows = [kept("x", cello=1), kept("y", "test", flute=1), lost("z")]
    found = differ(rows, rows)

    assert (found.added, found.gone, found.changed, found.relabelled, found.resplit, found.reasons, found.settings) == (
        (), (), (), (), (), (), ()
    )  # fmt: skip
    assert found.same_contents
    assert set(drift(found).values()) == {0.0}


def test_gone_clips_have_the_reason_that_the_later_version_gives(differ: Pair) -> None:
    found = differ(
        [kept("x", cello=1), kept("y", "test", cello=1, flute=0), kept("z")],
        [kept("z"), lost("x"), lost("q")],
    )

    assert found.gone == (
        Moved("irmas/x@0", "train", "removed", ("cello",)),
        Moved("irmas/y@0", "test", "not listed", ("cello",)),
    )
    assert found.added == ()
    assert found.reasons == (("not listed", "removed", 1),)


def test_added_clips_have_the_reason_that_kept_them_out_before(differ: Pair) -> None:
    found = differ([lost("x", "timeout", "pending"), lost("q")], [kept("x", cello=1), kept("y"), lost("q", "private")])

    assert found.added == (
        Moved("irmas/x@0", "train", "timeout", ("cello",)),
        Moved("irmas/y@0", "train", "not listed", ()),
    )
    assert found.reasons == (("removed", "private", 1),)


def test_a_stage_of_another_name_is_no_difference(differ):
    found = differ([lost("x")], [lost("x") | {"stage": "fetch"}])

    assert found.reasons == ()
    assert found.settings == ()


def test_changed_audio_from_the_same_upstream_samples_is_a_change_of_processing(differ: Pair) -> None:
    found = differ([kept("x")], [kept("x", pcm="b")])

    assert found.changed == (Changed("irmas/x@0", "train", "processing"),)
    assert drift(found)["equivalent"] == 1.0
    assert drift(found)["changed"] == 0.0


def test_changed_audio_is_judged_by_its_sketch_where_both_have_one(differ: Pair) -> None:
    before = [kept("x", sketch="0" * 16), kept("y", sketch="0" * 16)]
    after = [kept("x", pcm="b", native="d", sketch="0" * 14 + "03"), kept("y", pcm="b", native="d", sketch="f" * 16)]

    found = differ(before, after, lambda ids: pytest.fail(f"no need to listen to {ids}"))
    assert [(one.id, one.how) for one in found.changed] == [("irmas/x@0", "equivalent"), ("irmas/y@0", "other")]


def test_changed_audio_is_judged_by_ear_where_there_is_one(differ: Pair) -> None:
    before = [kept(name) for name in ("w", "x", "y", "z")]
    after = [kept(name, pcm="b", native="d") for name in ("w", "x", "y")] + [kept("z")]
    asked = []

    def ear(ids: Any) -> dict[str, bool]:
        asked.append(ids)
        return {"irmas/w@0": True, "irmas/x@0": False}

    found = differ(before, after, ear)

    assert asked == [{"irmas/w@0", "irmas/x@0", "irmas/y@0"}]
    assert [(one.id, one.how) for one in found.changed] == [
        ("irmas/w@0", "equivalent"), ("irmas/x@0", "other"), ("irmas/y@0", "unheard")
    ]  # fmt: skip
    assert (drift(found)["equivalent"], drift(found)["changed"]) == (0.25, 0.5)


def test_every_label_that_differs_is_named(differ: Pair) -> None:
    found = differ(
        [kept("x", cello=1), kept("y", cello=Label(1, "crowd", 0.75)), kept("z", "test", cello=1)],
        [kept("x", flute=0), kept("y", cello=Label(1, "crowd", 0.5)), kept("z", "test", cello=0)],
    )

    assert found.relabelled == (
        Relabelled("irmas/x@0", "train", "cello", (1, None, "human"), None),
        Relabelled("irmas/x@0", "train", "flute", None, (0, None, "human")),
        Relabelled("irmas/y@0", "train", "cello", (1, 0.75, "crowd"), (1, 0.5, "crowd")),
        Relabelled("irmas/z@0", "test", "cello", (1, None, "human"), (0, None, "human")),
    )
    assert drift(found)["relabelled"] == pytest.approx(2 / 3, abs=1e-6)  # a confidence alone is no other label


def test_other_notes_of_a_clip_are_named(differ: Pair) -> None:
    before, after = ({**kept("a", cello=1), "notes_sha256": digit * 64} for digit in "ab")

    assert differ([before], [after]).relabelled == (
        Relabelled("irmas/a@0", "train", "notes", (1, None, "score:" + "a" * 12), (1, None, "score:" + "b" * 12)),
    )


def test_clips_that_changed_split_are_named(differ: Pair) -> None:
    found = differ([kept("x"), kept("y")], [kept("x", "validation"), kept("y")])

    assert found.resplit == (Resplit("irmas/x@0", "train", "validation"),)
    assert drift(found)["resplit"] == 0.5


def test_label_balance_and_class_loss_are_per_instrument_and_split(differ: Pair) -> None:
    found = differ(
        [kept("w", cello=1), kept("x", cello=1), kept("y", flute=1), kept("z", flute=1)],
        [lost("w"), kept("x", cello=1), kept("y", flute=1), kept("z", flute=1)],
    )

    assert [row for row in found.balance if row.before] == [
        Balance("train", "cello", 2, 1, 0.5, 0.333333),
        Balance("train", "flute", 2, 2, 0.5, 0.666667),
    ]
    assert len(found.balance) == 6
    assert drift(found) == {
        "added": 0.0, "gone": 0.25, "changed": 0.0, "equivalent": 0.0, "relabelled": 0.0, "resplit": 0.0,
        "class_loss": 0.5, "label_balance": 0.166667,
    }  # fmt: skip


def test_settings_tools_and_source_files_are_compared_field_by_field(tmp_path: Path) -> None:
    def files(sha256: str) -> dict[str, Any]:
        source = manifest_content()["sources"]["fixture"]
        said = {"url": "https://h/x", "num_bytes": 1, "verified_by": "md5"}
        listed = [{"name": name, "sha256": digit * 64, **said} for name, digit in (("train", sha256), ("test", "e"))]
        return {"irmas": source | {"files": listed}}

    a = version(tmp_path / "a", [kept("x")], sources=files("1"))
    changes = {"recipe": {**a.content["recipe"], "seed": 7}, "tools": {"numpy": "2.5", "scipy": "2"}}
    b = version(tmp_path / "b", [kept("x")], sources=files("2"), **changes)

    found = compare(a, b)
    assert found.settings == (
        Setting("recipe.seed", 0, 7),
        Setting("sources.irmas.files.train.sha256", "1" * 64, "2" * 64),
        Setting("tools.numpy", "2.4.6", "2.5"),
        Setting("tools.scipy", None, "2"),
    )
    assert found.same_contents


def test_a_difference_is_canonical_json_whatever_the_order_of_files(tmp_path: Path) -> None:
    before, after = [kept("x", cello=1), kept("y")], [kept("x", cello=0), lost("y")]
    a, b = version(tmp_path / "a", before), version(tmp_path / "b", after)
    backwards = Manifest(b.folder, {**b.content, "clips": list(reversed(b.content["clips"]))})

    assert canonical_json(compare(a, b).as_json()) == canonical_json(compare(a, backwards).as_json())
    assert json.loads(canonical_json(compare(a, b).as_json()))["gone"] == [
        {"id": "irmas/y@0", "split": "train", "reason": "removed", "present": []}
    ]


# --- for people


def report(differ: Pair) -> Any:
    return differ(
        [kept("x", cello=1), kept("y", cello=1), kept("z")],
        [lost("x"), kept("y", "test", cello=0), kept("z", pcm="b", native="d")],
        tools={"numpy": "2.5"},
    )


def test_the_text_says_what_happened_in_sections(differ: Pair) -> None:
    found = report(differ)
    a, b = found.a.version, found.b.version

    assert (
        text(found)
        == f"""small {a} -> small {b}: 3 -> 2 clips (-1)

Clips by split
  split       before  after  added  gone  moved in  moved out
  train            3      1      0     1         0          1
  validation       0      0      0     0         0          0
  test             0      1      0     0         1          0

Gone: 1 clip
  reason now  clips
  removed         1
  irmas/x@0 (train: cello): removed

Changed audio: 1 clip
  changed audio                   clips
  other samples, not listened to      1
  irmas/z@0

Relabelled: 1 clip
  change             labels
  present -> absent       1
  irmas/y@0: cello present (human) -> absent (human)

Moved to another split: 1 clip
  from   to    clips
  train  test      1
  irmas/y@0

Label balance: clips with the instrument, share of its split
  split  instrument  before  after  change  share before  share after
  train  cello            2      0      -2         66.7%         0.0%

Tools
  setting      before  after
  tools.numpy  2.4.6     2.5

Drift
   share  of
  33.33%  gone
  33.33%  changed
  33.33%  relabelled
  33.33%  resplit
  50.00%  class_loss
  66.67%  label_balance"""
    )


def test_markdown_has_tables_and_folds_the_clips(differ: Pair) -> None:
    lines = markdown(report(differ)).splitlines()

    assert lines[0].startswith("### small ")
    assert "| train | 3 | 1 | 0 | 1 | 0 | 1 |" in lines
    assert "| present -> absent | 1 |" in lines
    assert "<details><summary>clips</summary>" in lines
    assert "- irmas/x@0 (train: cello): removed" in lines
    tables = [index for index, line in enumerate(lines) if line.startswith("|---")]
    assert all(lines[index - 1].count("|") == lines[index].count("|") for index in tables)
    assert all(lines[index - 2] == "" for index in tables)  # else the table is text


def test_no_more_than_ten_clips_of_a_kind_are_shown(differ: Pair) -> None:
    found = differ([kept(f"{number:02d}") for number in range(13)], [])

    assert "  irmas/09@0 (train: nothing present): not listed\n  and 3 more (--json lists all)" in text(found)
    assert "irmas/10@0" not in text(found)


# --- the command


def test_the_command_takes_output_roots_version_folders_and_manifests(sample_build: Path, capsys: Any) -> None:
    folder = sample_build / "current"
    for path in (sample_build, folder, folder / "manifest", folder / "manifest" / "manifest.json"):
        assert main([str(sample_build), str(path)]) == 0
        assert ": the same version\n" in capsys.readouterr().out


def test_json_and_markdown_exclude_each_other(sample_build: Path, capsys: Any) -> None:
    assert main([str(sample_build), str(sample_build), "--json", "--markdown"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_a_folder_without_a_dataset_is_a_usage_error(sample_build: Path, tmp_path: Path, capsys: Any) -> None:
    assert main([str(sample_build), str(tmp_path)]) == 2
    assert "no dataset here" in capsys.readouterr().err
