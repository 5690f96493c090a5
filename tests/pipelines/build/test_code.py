"""Digests of our own code: an edit of any file that a build runs, or an embedder computes with, is seen."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from own_songs import RATE, Mine

from tutti import ROOMS
from tutti.pipelines.build.arguments import parse
from tutti.pipelines.build.unchanged import STATE, summary_if_unchanged
from tutti.pipelines.engine.code import arithmetic_digest, code_digest, code_files

DIGESTS = """
from tutti.pipelines.engine.code import arithmetic_digest, code_digest
print(code_digest(), *(arithmetic_digest(f"pipelines.embedders.{name}") for name in ("logmel", "builtin", "ast")))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of our code, to edit and to run."""
    for package in (*ROOMS, "tutti"):
        shutil.copytree(
            ROOT / package, tmp_path / "tree" / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    return tmp_path / "tree"


def run(tree: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def edit(tree: Path, path: str) -> None:
    with (tree / path).open("a") as stream:
        stream.write("\n# edited\n")


@pytest.mark.parametrize(
    ("path", "seen_by"),
    [
        ("datasets/mel_bank.py", {"build", "logmel", "builtin", "ast"}),
        ("pipelines/embedders/logmel.py", {"build", "logmel", "builtin"}),
        ("train/features/spectrum.py", {"build", "builtin", "ast"}),
        ("train/features/fbank.py", {"build", "ast"}),
        ("train/models/_positions.py", {"build", "ast"}),
        ("datasets/manifest.py", {"build"}),
        ("pipelines/recipes/irmas.py", {"build"}),
        ("datasets/sources/irmas.py", {"build"}),
        ("pipelines/decoding/child.py", {"build"}),
        ("datasets/manifest_schema.json", {"build"}),
        ("train/run.py", set()),
    ],
)
def test_an_edit_is_seen_by_whatever_computes_with_the_file(tree: Path, path: str, seen_by: set[str]) -> None:
    before = run(tree, "-c", DIGESTS).split()
    edit(tree, path)
    after = run(tree, "-c", DIGESTS).split()

    names = ("build", "logmel", "builtin", "ast")
    assert {name for name, old, new in zip(names, before, after, strict=True) if old != new} == seen_by


def test_the_files_of_a_build_hold_every_room_that_decides_a_dataset() -> None:
    files = set(code_files())

    for path in ("pipelines", "datasets"):
        rooms = ("pipelines/stages/", "pipelines/curation/", "pipelines/embedders/", "pipelines/recipes/")
        wanted = {p.relative_to(ROOT).as_posix() for p in (ROOT / path).rglob("*.py") if p.name != "__init__.py"}
        assert {name for name in wanted if name.startswith((*rooms, "datasets/sources/"))} <= files
    assert {"train/features/fbank.py", "datasets/sample/mirror.py", "pipelines/embedders/builtin.safetensors"} <= files


def test_digests_do_not_depend_on_the_name_that_a_module_was_imported_by() -> None:
    assert arithmetic_digest("tutti.pipelines.embedders.ast") == arithmetic_digest("pipelines.embedders.ast")
    assert code_digest() == code_digest(code_files())


@pytest.mark.parametrize(
    "files",
    [
        ("/dev/zero",), ("../secret.py",), ("datasets/../../secret.py",), ("datasets//dev/zero.py",),
        ("datasets/record.py", "datasets/record.py"), ("train/run.py", "datasets/record.py"),
    ],
)  # fmt: skip
def test_no_file_but_ours_is_read_by_a_list_that_somebody_kept(files: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="no list of our code files"):
        code_digest(files)


@pytest.mark.parametrize("code", [["/dev/zero"], ["../x.py"], [7], [["datasets/record.py"]], {}, None, "/dev/zero"])
def test_a_note_of_a_stranger_s_output_is_not_believed(code: object, tmp_path: Path) -> None:
    arguments, _ = parse(["--dataset", "irmas", "--output", str(tmp_path)])
    (tmp_path / "current").symlink_to("versions/0123456789ab")
    (tmp_path / STATE).write_text(json.dumps({"command": "", "code": code, "summary": {}, "inputs": []}))

    assert summary_if_unchanged(arguments, []) is None


def test_a_pipe_in_the_place_of_the_note_keeps_nobody_waiting(tmp_path: Path) -> None:
    arguments, _ = parse(["--dataset", "irmas", "--output", str(tmp_path)])
    os.mkfifo(tmp_path / STATE)

    assert summary_if_unchanged(arguments, []) is None


def test_an_edit_of_what_an_embedder_computes_with_is_built_and_embedded_anew(tree: Path, tmp_path: Path) -> None:
    mine = Mine(tmp_path / "mine", tmp_path)
    for number in range(1, 30, 2):  # flutes: what can be told from the noise of the others
        tone = 0.3 * np.sin(2 * np.pi * (300 + 20 * number) * np.arange(2 * RATE) / RATE)
        soundfile.write(mine.folder / f"song{number:02d}.wav", tone, RATE)
    places = ["--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    command = ["-m", "pipelines.build", "--dataset", "folder", "--data-from", str(mine.folder), *places]
    command += ["--embedder", "logmel", "--direct-running-mode", "in_memory", "--direct_num_workers=1"]

    def build() -> dict[str, dict[str, dict[str, int]]]:
        summary: dict[str, dict[str, dict[str, int]]] = json.loads(run(tree, *command).splitlines()[-1])
        return summary

    first, again = build(), build()
    edit(tree, "datasets/mel_bank.py")
    edited = build()
    (tmp_path / "out" / STATE).unlink()
    afterwards = build()

    assert first["work"]["embed"] == {"reused": 0, "computed": 30}
    assert set(again["seconds"]) == {"total"}  # answered without Beam
    assert "embed" in edited["seconds"]
    assert edited["work"]["embed"] == {"reused": 0, "computed": 30}
    assert edited["work"]["prepare"] == {"reused": 30, "computed": 0}
    assert afterwards["work"]["embed"] == {"reused": 30, "computed": 0}
    assert edited["version"] == first["version"]  # the numbers are what they were
