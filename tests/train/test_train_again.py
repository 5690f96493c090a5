"""The same command again: a stopped run goes on, a finished one is left alone, and nobody else's file is touched."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from dataset_fixture import learnable_dataset

from tutti.train import run as train_run
from tutti.train.runs.folder import held

SETTINGS = ["epochs=3", "batch_size=8", "window_s=0.8", "features.n_mels=32", "model_config.width=4"]
FILES = ("model.safetensors", "config.json", "metrics.json", "checkpoint.safetensors")
KILLS = int(os.environ.get("TUTTI_KILLS", "2"))  # of the test with kills at any instant

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable_dataset(tmp_path_factory.mktemp("data"), num_train=32, num_others=12)


def command(data: Path, output: Path, *flags: str, settings: list[str] = SETTINGS) -> list[str]:
    sets = [part for setting in settings for part in ("--set", setting)]
    return ["--data", str(data), "--recipe", "logmel_cnn", "--output", str(output), *sets, *flags]


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    torch.set_num_threads(1)
    assert train_run.main(command(data, folder)) == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and times of all files."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def last_line(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    captured = capsys.readouterr()
    return json.loads(captured.out.splitlines()[-1]), captured.err


@pytest.fixture
def stop_after_first_epoch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    save_checkpoint = train_run.checkpoints.save_checkpoint

    def stop(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_run.checkpoints, "save_checkpoint", stop)
    yield
    monkeypatch.undo()


# --- a run that was stopped


def test_a_stopped_run_goes_on_from_its_checkpoint_by_the_same_command_bit_for_bit(
    finished: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    stop_after_first_epoch: None,
) -> None:  # fmt: skip
    assert train_run.main(command(data, tmp_path / "run")) == 130
    assert "run the same command again, it goes on from its last checkpoint" in capsys.readouterr().err
    monkeypatch.undo()

    assert train_run.main(command(data, tmp_path / "run")) == 0

    summary, told = last_line(capsys)
    assert summary["changed"] is True
    assert "goes on after 1 epochs and 0 steps" in told
    assert "epoch 1/3" not in told
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_run_that_lost_its_last_files_finishes_them_from_its_checkpoint(
    run: Path, finished: Path, data: Path
) -> None:
    weights = bytearray((run / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (run / "model.safetensors").write_bytes(weights)

    assert train_run.main(command(data, run)) == 0

    for name in FILES:
        assert (run / name).read_bytes() == (finished / name).read_bytes(), name


@pytest.mark.slow
def test_a_run_killed_while_each_of_its_files_is_written_ends_in_the_same_bytes(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    points = ["written:*checkpoint*", "renamed:*config*", "synced:*metrics*"]
    for point in points:
        done = started(data, folder, TUTTI_CRASH_AT=point)
        done.communicate(timeout=300)
        assert done.returncode == -signal.SIGKILL, point
        assert not (folder / "metrics.json").exists()

    last = started(data, folder)
    out, _ = last.communicate(timeout=300)

    assert (last.returncode, json.loads(out)["changed"]) == (0, True)
    assert sorted(path.name for path in folder.iterdir()) == sorted([".lock", *FILES, "tensorboard"])
    for name in FILES:
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


@pytest.mark.slow
def test_a_run_killed_at_any_instant_ends_in_the_same_bytes(finished: Path, data: Path, tmp_path: Path) -> None:
    rng, folder, killed = random.Random(0), tmp_path / "run", 0
    for _ in range(KILLS):
        process = started(data, folder, "--checkpoint-steps", "1")
        try:
            process.wait(rng.uniform(2.0, 5.0))
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        process.communicate(timeout=60)
        if killed % 4 == 3:  # else it would soon be finished
            shutil.rmtree(folder, ignore_errors=True)

    assert killed > 0
    last = started(data, folder)
    last.communicate(timeout=300)
    assert last.returncode == 0
    for name in FILES:
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name
    assert not list(folder.glob(".*.tmp"))


def started(data: Path, folder: Path, *flags: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "train.run", *command(data, folder, *flags), "--set", "compute.threads=0"],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **env}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


# --- a run that is finished


def test_a_finished_run_is_answered_as_done_and_not_a_byte_of_it_is_touched(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(run)
    for flags in ([], ["--resume"], ["--checkpoint-steps", "1"]):
        assert train_run.main(command(data, run, *flags)) == 0
        summary, told = last_line(capsys)
        assert (summary["changed"], summary["epochs"], summary["clips_per_s"]) == (False, 3, None)
        assert "this run is finished, nothing to do" in told
        assert "epoch 1/3" not in told
    assert everything(run) == before


def test_the_summary_of_a_finished_run_says_what_it_said_when_it_was_trained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_run.main(command(data, tmp_path / "run")) == 0
    first, _ = last_line(capsys)
    assert train_run.main(command(data, tmp_path / "run")) == 0
    again, _ = last_line(capsys)

    measured = ("changed", "clips_per_s", "data_wait_share", "seconds", "reading")
    assert first.keys() == again.keys()
    assert {k: v for k, v in first.items() if k not in measured} == {
        k: v for k, v in again.items() if k not in measured
    }


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(
    run: Path, data: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / name).read_bytes()
    (run / name).unlink()
    os.mkfifo(run / name)

    assert train_run.main(command(data, run)) == 0

    assert last_line(capsys)[0]["changed"] is True  # finished anew from its checkpoint
    assert (run / name).read_bytes() == before


def test_figures_that_are_none_are_an_integrity_error_with_a_remedy(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = json.loads((run / "metrics.json").read_bytes())
    (run / "metrics.json").write_text(json.dumps(metrics | {"splits": {"test": None}}))

    assert train_run.main(command(data, run)) == 3

    assert capsys.readouterr().err.endswith("metrics.json: not a run's figures; --restart trains it anew\n")


def test_a_finished_run_needs_neither_its_checkpoint_nor_a_folder_that_can_be_written(run: Path, data: Path) -> None:
    (run / "checkpoint.safetensors").unlink()
    (run / ".lock").unlink()

    assert train_run.main(command(data, run)) == 0

    assert not (run / ".lock").exists()


def test_seeds_that_are_finished_are_not_trained_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SETTINGS[1:], "epochs=1"]
    assert train_run.main(command(data, tmp_path, "--seeds", "1", settings=settings)) == 0
    before = everything(tmp_path / "seed-0")
    capsys.readouterr()

    assert train_run.main(command(data, tmp_path, "--seeds", "2", settings=settings)) == 0

    summary, _ = last_line(capsys)
    assert [one["changed"] for one in summary["runs"]] == [False, True]
    assert summary["changed"] is True
    assert everything(tmp_path / "seed-0") == before


# --- another run, another's files


@pytest.mark.parametrize("is_finished", [True, False])
def test_another_runs_folder_is_refused_with_what_differs_and_not_a_byte_of_it_is_touched(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str], is_finished: bool
) -> None:
    if not is_finished:
        (run / "metrics.json").unlink()
    before = everything(run)

    assert train_run.main(command(data, run, "--seed", "1", "--set", "learning_rate=0.5")) == 2

    error = capsys.readouterr().err
    assert "holds a run with other recipe.optimize.learning_rate (" in error
    assert " there, 0.5 here), recipe.seed (0 there, 1 here); choose another --output, or --restart" in error
    assert error.count("\n") == 1
    assert everything(run) == before


def test_other_data_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = learnable_dataset(tmp_path / "other", num_train=8, num_others=4)

    assert train_run.main(command(other, run)) == 2

    assert "holds a run with other root_digest (" in capsys.readouterr().err


def test_restart_begins_anew_and_removes_what_runs_wrote_and_nothing_else(
    run: Path, finished: Path, data: Path, tmp_path: Path
) -> None:
    mine = ["notes.txt", "tensorboard/events.out.tfevents.1.mine", "pictures/test-0123456789ab/my.png"]
    for name in mine:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("mine")
    drawn = run / "pictures" / "test-0123456789ab" / "roc.png"
    drawn.write_text("drawn by train.evaluate")
    curves = set((run / "tensorboard").glob("*.tutti"))

    assert train_run.main(command(data, run, "--restart", "--seed", "1")) == 0

    assert json.loads((run / "config.json").read_text())["recipe"]["seed"] == 1
    assert [(run / name).read_text() for name in mine] == ["mine"] * 3
    assert not drawn.exists()
    assert len(curves) == 1
    assert not curves & set((run / "tensorboard").iterdir())


def test_restart_of_what_cannot_be_trained_removes_nothing(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(run)
    assert train_run.main(command(data, run, "--restart", "--set", "features.n_mels=16")) == 2
    assert "at least 32 mel bands" in capsys.readouterr().err
    assert {name: entry for name, entry in everything(run).items() if name != ".lock"} == {
        name: entry for name, entry in before.items() if name != ".lock"
    }


@pytest.mark.parametrize("flags", [[], ["--restart"]])
@pytest.mark.parametrize("name", [*FILES, "tensorboard", "pictures", ".lock"])
def test_a_file_that_no_run_wrote_is_neither_replaced_nor_removed(
    name: str, flags: list[str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text("my own words, kept for years")

    assert train_run.main(command(data, folder, *flags)) in (2, 3)

    error = capsys.readouterr().err
    assert name in error
    assert error.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "my own words, kept for years"


def test_a_lock_file_that_is_a_link_leads_nowhere(data: Path, tmp_path: Path) -> None:
    mine, folder = tmp_path / "mine.txt", tmp_path / "run"
    mine.write_text("")
    folder.mkdir()
    (folder / ".lock").symlink_to(mine)

    assert train_run.main(command(data, folder)) == 2

    assert mine.read_text() == ""


def test_resume_and_restart_together_are_refused(data: Path, tmp_path: Path) -> None:
    assert train_run.main(command(data, tmp_path / "run", "--resume", "--restart")) == 2
    assert not (tmp_path / "run").exists()


# --- two at once


def test_a_second_process_in_the_same_folder_is_told_who_trains_there(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "metrics.json").unlink()
    with held(run):
        before = everything(run)
        assert train_run.main(command(data, run)) == 75
        assert train_run.main(command(data, run, "--restart")) == 75
        assert everything(run) == before
    error = capsys.readouterr().err
    assert f"pid {os.getpid()} on " in error
    assert error.count("trains here; try later, or choose another --output") == 2


def test_of_two_commands_at_once_one_trains_and_the_other_comes_back_later(data: Path, tmp_path: Path) -> None:
    processes = [started(data, tmp_path / "run") for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in processes]

    codes = sorted(process.returncode for process in processes)
    assert codes in ([0, 75], [0, 0]), outputs  # the second may have come when the first was finished
    changed = [json.loads(out)["changed"] for out, _ in outputs if out]
    assert changed.count(True) == 1


def test_a_lock_ends_with_its_holder_however_it_ends(tmp_path: Path) -> None:
    code = "import sys, pathlib, time; from tutti.train.runs.folder import held\n"
    code += "with held(pathlib.Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait(timeout=60)

    with held(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text().startswith(f"pid {os.getpid()} on ")
    assert not (tmp_path / "run" / ".lock").exists()  # nothing was written
