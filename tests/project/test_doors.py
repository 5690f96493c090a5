"""What all commands have in common: flags, a version, help without side effects, one line for wrong arguments."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import COMMANDS
from conftest import ROOT

from tutti.datasets.command import VERSION

SUBCOMMANDS = {
    "pipelines.cache": ("list", "verify", "gc", "forget", "availability"),
    "pipelines.relabel": ("sample", "score"),
    "pipelines.versions": ("list", "use", "gc"),
}
LINES = [*COMMANDS, *(f"{name} {verb}" for name, verbs in SUBCOMMANDS.items() for verb in verbs)]
NEED_NOTHING = {
    "pipelines.demo", "pipelines.cache list", "pipelines.cache verify", "pipelines.cache gc",
    "pipelines.cache availability",
}  # fmt: skip

# Runs commands one after the other in one process, so that torch and Beam are imported once; says what each did.
DRIVER = """
import contextlib, importlib, io, json, os, sys
events = []
ACTS = {"subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system", "socket.connect", "os.mkdir",
        "os.rename"}
def watch(name, details):
    if name in ACTS:
        events.append(f"{name} {details[0]!r}")
    elif name == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        events.append(f"write {details[0]!r}")
import tutti.pipelines.build.job
mains = {}
for line in sys.argv[1:]:
    name, *verb = line.split()
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    mains[line] = module.main, verb
sys.addaudithook(watch)
for text in sys.stdin:
    line, arguments = json.loads(text)
    main, verb = mains[line]
    events.clear()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*verb, *arguments])
    print(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue(), "did": list(events)}), flush=True)
"""


Drive = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    """Run a line of `LINES` with arguments, in a process that has imported all."""
    folder = tmp_path_factory.mktemp("driven")
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *LINES],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def run(line: str, *arguments: str) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps([line, arguments]), file=process.stdin, flush=True)
        return dict(json.loads(process.stdout.readline()))

    yield run
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert list(folder.iterdir()) == []


def flags_of(help: str) -> dict[str, bool]:
    """Flags that a help text lists: whether each takes a value."""
    listed = re.findall(r"^  (?:-h, )?(--[a-z-]+)( \S)?", help, re.MULTILINE)
    return {name: bool(value) for name, value in listed}


def test_all_commands_are_known():
    assert COMMANDS == [
        "datasets.sample", "pipelines.build", "pipelines.cache", "pipelines.demo", "pipelines.diff",
        "pipelines.export", "pipelines.info", "pipelines.merge", "pipelines.relabel", "pipelines.render",
        "pipelines.render.train_embedder", "pipelines.render.training_set", "pipelines.verify",
        "pipelines.versions", "train.ablate", "train.evaluate", "train.predict", "train.run",
    ]  # fmt: skip


@pytest.mark.slow
def test_help_of_every_command_prints_usage_and_does_nothing_else(drive: Drive):
    found = {line: drive(line, "--help") for line in LINES}

    assert {line: one["code"] for line, one in found.items()} == dict.fromkeys(LINES, 0)
    assert [line for line, one in found.items() if not one["out"].startswith(f"usage: python -m {line} ")] == []
    assert {line: one["did"] for line, one in found.items() if one["did"]} == {}
    assert {line: one["err"] for line, one in found.items() if one["err"]} == {}
    listed = {name: found[name]["out"].partition("\n  COMMAND\n")[2].partition("\n\n")[0] for name in COMMANDS}
    verbs = {name: tuple(re.findall(r"^    ([a-z]+)", text, re.MULTILINE)) for name, text in listed.items() if text}
    assert verbs == SUBCOMMANDS


@pytest.mark.slow
def test_every_command_prints_the_version_and_does_nothing_else(drive: Drive):
    said = {"code": 0, "out": f"tutti {VERSION}\n", "err": "", "did": []}

    assert {line: drive(line, "--version") for line in LINES} == dict.fromkeys(LINES, said)


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_every_flag_that_is_misspelt_is_named_in_one_line_with_2(drive: Drive, line: str):
    flags = flags_of(drive(line, "--help")["out"])
    assert flags.keys() >= {"--help", "--version"}
    for flag in flags:
        wrong = f"{flag[:4]}x{flag[4:]}"
        found = drive(line, wrong)
        assert (found["code"], found["out"], found["did"]) == (2, "", [])
        assert found["err"].replace("_", "-").startswith(f"error: unknown flag {wrong} (did you mean '{flag}'?); see ")
        assert found["err"].count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_every_flag_is_taken_with_underscores(drive: Drive, line: str):
    for flag, takes_a_value in flags_of(drive(line, "--help")["out"]).items():
        spelled = "--" + flag[2:].replace("-", "_") + ("=1" if takes_a_value else "")
        if "_" in spelled:
            assert drive(line, spelled, "--help")["code"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if line not in NEED_NOTHING])
def test_what_is_missing_is_said_in_one_line_with_2(drive: Drive, line: str):
    found = drive(line)

    assert (found["code"], found["out"], found["did"]) == (2, "", [])
    assert found["err"].startswith(
        ("error: the following arguments are required: ", "error: --dataset NAME is missing")
    )
    assert found["err"].count("\n") == 1


def test_help_of_the_demo_does_not_run_it(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.demo", "--help"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m pipelines.demo")
    assert list(tmp_path.iterdir()) == []
