"""Runs on notes have what all runs have: tiers, hot copies, resuming, processes, seeds, intervals."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from materials import data_of
from safetensors.torch import load_file
from scored_dataset import PROGRAMS, scored_example, write_scored
from torch import Tensor

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import read_manifest
from tutti.train import ablate, evaluate, predict
from tutti.train import run as train_run
from tutti.train.clips import Clips, StreamedClips
from tutti.train.fitting import distributed
from tutti.train.fitting.loop import examples
from tutti.train.notes.clips import load_scored_clips
from tutti.train.recipe import load_recipe
from tutti.train.runs.saved import load_run
from tutti.train.tasks.notes import Notes, Windows

CPU = torch.device("cpu")
SMALL = ["epochs=2", "batch_size=4", "window_s=1.0", "model_config.first_channels=4"]
FILES = ("model.safetensors", "config.json", "metrics.json", "checkpoint.safetensors")

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of fourteen clips to learn from the first two have no score."""
    examples = [scored_example("train", number) for number in range(14)]
    examples[:2] = [(example, None) for example, _ in examples[:2]]
    examples += [scored_example(split, number) for split in ("validation", "test") for number in range(5)]
    return write_scored(tmp_path_factory.mktemp("scored"), examples)


def trained(data: Path, output: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    recipe = load_recipe("musescore_multitask_small", [*SMALL, *overrides])
    return train_run.train(recipe, read_manifest(data), output=output, **options)


def command(data: Path, output: Path, *flags: str, settings: list[str] = SMALL) -> list[str]:
    sets = [part for setting in settings for part in ("--set", setting)]
    return ["--data", str(data), "--recipe", "musescore_multitask_small", "--output", str(output), *sets, *flags]


def contents(folder: Path, *names: str) -> list[bytes]:
    return [(folder / name).read_bytes() for name in names]


# --- tiers and hot copies


@pytest.mark.parametrize("scale", ["db", "magnitude"])
def test_windows_of_cqt_are_the_same_in_both_tiers_bit_for_bit(data: Path, scale: str) -> None:
    recipes = [
        load_recipe("musescore_multitask_small", [*SMALL, f"cqt.scale={scale}", "shuffle_clips=4", f"reading={tier}"])
        for tier in ("resident", "streaming")
    ]
    resident, streamed = (load_scored_clips(data_of(data), "train", recipe, tuple(PROGRAMS)) for recipe in recipes)
    assert isinstance(resident.audio, Clips)
    assert isinstance(streamed.audio, StreamedClips)
    draws = examples(resident.audio, resident.scored, recipes[0], 0)
    assert sorted(draws.clips) == list(range(2, 14))
    assert np.array_equal(draws.clips, examples(streamed.audio, streamed.scored, recipes[1], 0).clips)
    found = [list(clips.audio.batches(draws, 40, "zero")) for clips in (resident, streamed)]
    assert len(found[0]) == 3
    for (clips_B, window), (other_B, other) in zip(*found, strict=True):
        assert torch.equal(clips_B, other_B)
        assert torch.equal(window, other)


def test_both_tiers_and_a_hot_copy_learn_the_same_weights_and_figures(data: Path, tmp_path: Path) -> None:
    settings = ["shuffle_clips=4"]
    resident = trained(data, tmp_path / "resident", *settings)
    streamed = trained(data, tmp_path / "streamed", *settings, "reading=streaming")
    hot = trained(data, tmp_path / "hot", *settings, hot_copies=tmp_path / "cache")
    assert [run["reading"] for run in (resident, streamed, hot)] == ["resident", "streaming", "resident"]
    assert 0 < streamed["data_wait_share"] < 1
    expected = contents(tmp_path / "resident", "model.safetensors", "metrics.json")
    assert contents(tmp_path / "streamed", "model.safetensors", "metrics.json") == expected
    assert contents(tmp_path / "hot", "model.safetensors", "metrics.json") == expected
    copies = sorted((tmp_path / "cache" / "hot").glob("*.int16"))
    assert len(copies) == 3  # train, validation, test
    evaluate.evaluate(load_run(tmp_path / "hot", CPU), read_manifest(data), "test", hot_copies=tmp_path / "cache")
    assert sorted((tmp_path / "cache" / "hot").glob("*.int16")) == copies


# --- resuming


@pytest.mark.parametrize("stop_after", [1, 3, 4, 8])  # of 9 steps, 3 an epoch
@pytest.mark.parametrize("reading", ["resident", "streaming"])
def test_a_run_with_everything_that_has_a_state_goes_on_bit_for_bit(
    stop_after: int, reading: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rich = ["epochs=3", "ema_decay=0.8", "head_epochs=1", "optimizer=sgd", "learning_rate=0.05", f"reading={reading}"]
    trained(data, tmp_path / "whole", *rich)
    save_checkpoint, written = train_run.checkpoints.save_checkpoint, []

    def stop(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        written.append(arguments)
        if len(written) == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_run.checkpoints, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        trained(data, tmp_path / "stopped", *rich, checkpoint_steps=1)
    monkeypatch.undo()
    torch.rand(7)  # whatever else draws random numbers
    trained(data, tmp_path / "stopped", *rich)
    assert contents(tmp_path / "stopped", *FILES) == contents(tmp_path / "whole", *FILES)


# --- seeds, intervals, tables


def test_several_seeds_give_mean_and_deviation_in_one_command(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_run.main(command(data, tmp_path, "--seeds", "2", settings=[*SMALL, "epochs=4"])) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    values = [run["test"]["model"]["second_auc"] for run in summary["runs"]]
    assert values[0] != values[1]
    assert summary["test"]["second_auc"]["mean"] == pytest.approx(sum(values) / 2, abs=1e-6)
    assert summary["test"]["second_auc"]["deviation"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5, abs=2e-6)
    assert "test over 2 seeds: instrument_macro_f1 " in captured.err
    assert [Path(run["output"]).name for run in summary["runs"]] == ["seed-0", "seed-1"]


def test_intervals_over_songs_are_given_on_request(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(data, tmp_path / "run")
    flags = ["--run", str(tmp_path / "run"), "--data", str(data), "--hot-copy", "off"]
    assert evaluate.main(flags) == 0
    assert "intervals" not in json.loads(capsys.readouterr().out)
    assert evaluate.main([*flags, "--intervals", "--resamples", "40"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["intervals"].keys() == report["model"].keys()
    for name, interval in report["intervals"].items():
        assert interval["estimate"] == report["model"][name], name
        assert interval["low"] <= interval["high"], name
    assert report["intervals"]["pitch_accuracy"]["low"] < report["intervals"]["pitch_accuracy"]["high"]
    assert report["intervals"]["pitch_accuracy"]["num_resamples"] == 40
    assert captured.err.count("95 % of resampled songs") == 4


def test_a_papers_table_compares_what_the_task_is_about(data: Path, tmp_path: Path) -> None:
    flags = ["data_fraction", *command(data, tmp_path / "out", settings=[*SMALL, "epochs=1"])]
    assert ablate.main(flags) == 0
    lines = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert lines[2] == "| | instrument macro f1 | pitch accuracy | roll accuracy | second auc | published F1 |"
    assert len(lines) == 14
    counts = [len(load_file(path)) for path in (tmp_path / "out").rglob("model.safetensors")]
    assert len(counts) == 10


def test_a_table_of_settings_that_notes_lack_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate.main(["augmentations", *command(data, tmp_path / "out")]) == 2
    assert "augment is a setting of tagging, and musescore_multitask_small learns notes" in capsys.readouterr().err


def test_a_share_of_the_songs_is_learned_from(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(data, tmp_path / "run", "epochs=1", "train_share=0.25")
    assert "; 3 clips to learn from, 5 to validate; " in capsys.readouterr().err


# --- optimization


def state_after(data: Path, folder: Path, *overrides: str) -> dict[str, Tensor]:
    trained(data, folder, *overrides)
    return load_file(folder / "checkpoint.safetensors")


def test_the_moving_average_is_what_is_kept(data: Path, tmp_path: Path) -> None:
    state = state_after(data, tmp_path / "ema", "ema_decay=0.9", "select_by=last")
    kept = load_file(tmp_path / "ema" / "model.safetensors")
    assert torch.equal(kept["head.weight"], state["average.head.weight"])
    assert not torch.equal(kept["head.weight"], state["model.head.weight"])


def test_a_frozen_backbone_moves_after_its_epochs_and_its_batch_norms_always(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe("musescore_multitask_small", SMALL)
    train_run.seed_weights(0)
    before = Notes(recipe, tuple(PROGRAMS)).network().state_dict()
    after = state_after(data, tmp_path / "frozen", "epochs=1", "head_epochs=1")
    assert torch.equal(after["model.down.0.first.weight"], before["down.0.first.weight"])
    assert not torch.equal(after["model.down.0.first_norm.weight"], before["down.0.first_norm.weight"])
    assert not torch.equal(after["model.head.weight"], before["head.weight"])
    later = state_after(data, tmp_path / "unfrozen", "epochs=2", "head_epochs=1", "unfreeze=up.")
    assert torch.equal(later["model.down.0.first.weight"], before["down.0.first.weight"])  # never trained
    assert not torch.equal(later["model.up.3.first.weight"], before["up.3.first.weight"])


@pytest.mark.parametrize("switch", ["precision=bf16", "channels_last=on"])
def test_a_switch_for_speed_learns_nearly_the_same(switch: str, data: Path, tmp_path: Path) -> None:
    losses = []
    for name, overrides in (("plain", []), ("switched", [switch])):
        trained(data, tmp_path / name, "epochs=1", *overrides)
        losses.append(json.loads((tmp_path / name / "metrics.json").read_text())["history"][0]["train_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(data: Path, tmp_path: Path) -> None:
    plain = state_after(data, tmp_path / "plain", "epochs=1", "model_config.num_blocks=1")
    compiled = state_after(data, tmp_path / "compiled", "epochs=1", "model_config.num_blocks=1", "compile=on")
    assert plain.keys() == compiled.keys()
    assert torch.allclose(compiled["model.head.weight"], plain["model.head.weight"], atol=1e-2)


# --- several processes


def test_the_shares_of_processes_make_the_gradient_of_the_whole_batch(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("musescore_multitask_small", [*SMALL, "batch_size=5"])
    task = Notes(recipe, tuple(PROGRAMS))
    material = task.load(data_of(data))
    train_run.seed_weights(0)
    tagger = task.build(material.statistics).eval()  # batch norms of a share have statistics of their own
    step = task.step(tagger, tagger, material)
    batch = Windows(torch.tensor([2, 5, 7, 8, 9]), torch.tensor([0, 3, 9, 0, 20]), torch.randn(5, 32, 88) * 5 - 40)

    def gradient() -> Tensor:
        tagger.zero_grad()
        step(batch, 0, 0).backward()  # type: ignore[no-untyped-call]
        weight = tagger.network.get_parameter("head.weight").grad
        assert weight is not None
        return weight.clone()

    whole = gradient()
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    parts = []
    for rank in (0, 1):  # three examples, and two
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(gradient())
    assert torch.allclose((parts[0] + parts[1]) / 2, whole, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(parts[0], parts[1], rtol=1e-2)


@pytest.mark.slow
def test_two_processes_learn_nearly_what_one_learns(data: Path, tmp_path: Path) -> None:
    settings = [*SMALL, "learning_rate=1e-3"]
    assert train_run.main(command(data, tmp_path / "one", settings=settings)) == 0
    result = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "train.run",
            *command(data, tmp_path / "two", settings=settings),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1  # one process speaks
    losses = [
        [row["train_loss"] for row in json.loads((tmp_path / name / "metrics.json").read_text())["history"]]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # batch norms see half of a batch each
    assert losses[1][1] < losses[1][0]


# --- runs of before


def test_a_run_that_was_written_before_notes_were_a_task_still_scores_and_hears(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = trained(data, tmp_path / "run", "precision=bf16")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    recipe = config["recipe"]
    for name in ("shuffle_clips", "train_share", "unfreeze"):  # they did not exist
        del recipe[name]
    recipe["precision"] = recipe.pop("compute")["precision"]
    path.write_text(json.dumps(config | {"schema_version": 1, "task": "frames", "recipe": recipe}))

    run = load_run(tmp_path / "run", CPU)
    assert run.recipe.compute.precision == "bf16"
    assert evaluate.evaluate(run, read_manifest(data), "test")["model"] == summary["test"]["model"]
    assert predict.main(["--run", str(tmp_path / "run"), "--json", str(tmp_path / "missing.wav")]) == 2
    assert json.loads(capsys.readouterr().out)["files"] == []
    with pytest.raises(UsageError, match=r"holds a run with other recipe\.seed"):  # train.run goes on in its own only
        trained(data, tmp_path / "run", "precision=bf16", "seed=1")
