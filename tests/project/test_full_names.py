"""`tutti.X` is the name of every module: short names mean the full ones, and `datasets` is Hugging Face's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import COMMANDS
from conftest import ROOT, TINY

from tutti.datasets.sample import write_sample_mirror

# As `python -m NAME ...`, one after the other; then every file of ours that was loaded, with its names and modules.
LOADED = """
import collections, json, os, runpy, sys
root, *lines = sys.argv[1:]
for line in lines:
    sys.argv = json.loads(line)
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert end.code == 0, end.code
names = collections.defaultdict(lambda: (set(), set()))
for key, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None) or ""
    if key != "__mp_main__" and file.startswith(root + os.sep) and "site-packages" not in file:
        names[file][0].add(module.__spec__.name if module.__spec__ else module.__name__)
        names[file][1].add(id(module))
print()
json.dump({file[len(root) + 1:]: [sorted(a), len(b)] for file, (a, b) in names.items()}, sys.stdout)
"""


def loaded(*lines: tuple[str, ...]) -> dict[str, tuple[list[str], int]]:
    """File -> the names under which commands loaded it, and as how many modules."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(ROOT), *map(json.dumps, lines)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return {file: tuple(found) for file, found in json.loads(done.stdout.splitlines()[-1]).items()}  # type: ignore[misc]


def full_name(file: str) -> str:
    """`tutti.datasets.sample` of `datasets/sample/__init__.py`."""
    parts = Path(file).with_suffix("").parts
    return ".".join(("tutti", *parts) if parts[0] != "tutti" else parts).removesuffix(".__init__")


@pytest.mark.slow
def test_commands_load_every_module_once_and_under_its_full_name(tmp_path: Path) -> None:
    write_sample_mirror(tmp_path / "mirror", seed=0, size=TINY)
    output = str(tmp_path / "out")
    build = (
        "pipelines.build", "--dataset", "irmas", "--mirror", str(tmp_path / "mirror"), "--limit", "12",
        "--embedder", "none", "--cache-dir", str(tmp_path / "cache"), "--output", output,
    )  # fmt: skip

    found = loaded(*((command, "--help") for command in COMMANDS), build)

    assert len(found) > 200
    assert {file: names for file, names in found.items() if names != ([full_name(file)], 1)} == {}


@pytest.mark.parametrize("first", ["tutti.datasets", "pipelines", "datasets", "train.recipe"])
def test_short_names_are_other_names_of_the_same_modules(first: str) -> None:
    code = (
        f"import {first}, pipelines.recipe, train.recipe, augment.batch, tutti.pipelines.recipe, tutti.train.recipe\n"
        "import tutti.augment.batch, sys\n"
        "for room, name in (('pipelines', 'recipe'), ('train', 'recipe'), ('augment', 'batch')):\n"
        "    short, full = sys.modules[f'{room}.{name}'], sys.modules[f'tutti.{room}.{name}']\n"
        "    print(short is full, short.__name__, short.__spec__.name)\n"
        "    print(sys.modules[room] is sys.modules[f'tutti.{room}'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    names = ("pipelines.recipe", "train.recipe", "augment.batch")
    assert done.stdout.split() == [
        word for name in names for word in ("True", f"tutti.{name}", f"tutti.{name}", "True")
    ]


@pytest.mark.parametrize("code", ["import datasets, tutti.datasets", "import tutti.datasets, datasets"])
def test_hugging_face_datasets_and_ours_live_in_one_process(code: str, tmp_path: Path) -> None:
    theirs = tmp_path / "installed" / "datasets"
    theirs.mkdir(parents=True)
    (theirs / "__init__.py").write_text("from datasets.load import load_dataset\n")
    (theirs / "load.py").write_text("def load_dataset():\n    return 'theirs'\n")
    code += "; import datasets.load; print(datasets.load_dataset(), tutti.datasets.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(theirs.parent)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == "theirs tutti.datasets\n"


def test_our_command_named_datasets_runs_beside_theirs(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "datasets.sample", "--help"], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.startswith("usage: python -m datasets.sample ")
