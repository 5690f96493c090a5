"""A stage has one name: that of its file, of its Beam label, and of the `stage` of the rows that it rejects."""

import ast
import tarfile
from pathlib import Path

from conftest import ROOT

from tutti.datasets.manifest import read_manifest
from tutti.pipelines.verify.check import verify
from tutti.pipelines.verify.findings import open_manifest

STAGES = {path.stem for path in (ROOT / "pipelines" / "stages").glob("[!_]*.py")}
IN_THE_FLOW = {"download", "select", "fetch", "prepare", "clean", "songs", "fidelity", "embed", "curate", "split",
               "join", "clip_rows", "write", "manifest"}  # fmt: skip
NOW = {"clean", "curate", "fetch", "prepare", "split"}
BEFORE = {"clean", "download", "outliers", "prepare"}


def strings_in_calls(path, name):
    """The constant strings that are passed under a name, or first to a function of that name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == name and isinstance(node.value, ast.Constant):
            yield node.value.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield from (one.value for one in node.args[:1] if isinstance(one, ast.Constant))


def test_the_label_of_a_stage_is_its_file():
    flow = ROOT / "pipelines" / "build" / "flow.py"

    assert {*strings_in_calls(flow, "stage"), "join"} == IN_THE_FLOW
    assert {*IN_THE_FLOW, "frozen", "fetch_tars"} == STAGES  # the last two stand in for some of them


def test_a_stage_rejects_rows_under_its_own_name():
    said = {path.stem: set(strings_in_calls(path, "stage")) for path in (ROOT / "pipelines" / "stages").glob("*.py")}

    assert {name: stages for name, stages in said.items() if stages} == {
        "select": {"select"},
        "fetch": {"fetch"},
        "prepare": {"prepare"},
        "fetch_tars": {"fetch"},  # of what lies in tars
        "clean": {"clean"},
        "songs": {"songs"},
        "fidelity": {"fidelity"},
        "frozen": {"select"},  # the upstream list lacks the clip
    }


def test_the_rows_of_a_build_name_the_stages_that_rejected_them(sample_build):
    rows = [row for row in read_manifest(sample_build).clip_rows() if row["status"] != "kept"]

    assert {row["stage"] for row in rows} - {"curate"} == NOW - {"curate"}
    assert {row["stage"] for row in rows if row["reason"] == "duplicate"} == {"split"}


def test_a_version_with_the_names_of_before_is_sound(tmp_path):
    with tarfile.open(Path(__file__).with_name("manifest_of_before.tar.gz")) as packed:  # as published then
        packed.extractall(tmp_path, filter="data")
    published = open_manifest(tmp_path / "manifests" / "sample")

    assert {row["stage"] for row in published.clip_rows() if row["status"] != "kept"} == BEFORE
    assert verify(published, "manifest") == []
