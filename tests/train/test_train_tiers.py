"""Resident or streamed: the same windows, the same weights; what fits decides, and hot copies are found again."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_fixture import learnable_dataset, reseal
from materials import data_of

from tutti.datasets.errors import IntegrityError
from tutti.datasets.files import default_cache_folder
from tutti.datasets.manifest import read_manifest
from tutti.pipelines.cache.__main__ import main as cache_command
from tutti.train import run as train_run
from tutti.train.clips import AnyClips, Clips, StreamedClips
from tutti.train.data import bytes_of, open_table, tier_of
from tutti.train.evaluate import evaluate
from tutti.train.features import standardization
from tutti.train.fitting.loop import Stopwatch, examples
from tutti.train.front_end import clips_to_learn_from, load_clips, make_front_end
from tutti.train.reading.order import Draws, in_sequence
from tutti.train.reading.sampler import clip_weights
from tutti.train.reading.tiers import _container_limit, choose_tier, free_bytes
from tutti.train.recipe import load_recipe
from tutti.train.runs.saved import load_run
from tutti.train.tagging_recipe import TaggingRecipe

CPU = torch.device("cpu")
SMALL = ["epochs=2", "batch_size=8", "window_s=0.8", "features.n_mels=32", "model_config.width=4"]
# 36 clips in row groups of 4: 5 blocks, of 8 clips the first four.
BLOCKS = [*SMALL, "shuffle_clips=8"]


@pytest.fixture(autouse=True)
def one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TUTTI_CACHE_DIR", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable_dataset(tmp_path_factory.mktemp("data"), num_train=36, num_others=10)


def trained(data: Path, output: Path, *overrides: str, name: str = "logmel_cnn", **how: Any) -> dict[str, Any]:
    recipe = load_recipe(name, overrides, tiny=name != "logmel_cnn")
    return train_run.train(recipe, read_manifest(data), output=output, **how)


def opened(data: Path, unit: str, reading: str, *overrides: str) -> tuple[AnyClips, TaggingRecipe]:
    recipe = load_recipe("logmel_cnn", [*BLOCKS, *overrides, f"reading={reading}"])
    return load_clips(data_of(data), "train", recipe, unit=unit), recipe  # type: ignore[arg-type]


def windows(clips: AnyClips, draws: Draws, length: int, last: str = "repeat", start: int = 0) -> list[torch.Tensor]:
    return [
        torch.cat([each.flatten() for each in batch]) for batch in clips.batches(draws, length, last, start_step=start)
    ]


# --- the same windows


@pytest.mark.parametrize("unit", ["samples", "frames"])
@pytest.mark.parametrize("last", ["repeat", "zero"])
def test_both_tiers_hand_out_the_same_windows_in_the_same_order(data: Path, unit: str, last: str) -> None:
    resident, recipe = opened(data, unit, "resident")
    streamed, _ = opened(data, unit, "streaming")
    assert isinstance(resident, Clips)
    assert isinstance(streamed, StreamedClips)
    chosen = clips_to_learn_from(resident, recipe)
    for epoch in (0, 1):  # whole clips, verified; then windows alone
        draws = examples(resident, chosen, recipe, epoch)
        assert np.array_equal(draws.clips, examples(streamed, chosen, recipe, epoch).clips)
        length = 12_800 if unit == "samples" else 50
        expected = windows(resident, draws, length, last)
        found = windows(streamed, draws, length, last)
        assert len(found) == 5
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        late = windows(streamed, draws, length, last, start=3)
        assert all(torch.equal(a, b) for a, b in zip(late, expected[3:], strict=True))


@pytest.mark.parametrize("unit", ["samples", "frames"])
def test_chunks_that_pass_the_end_of_their_clip_are_the_same_in_both_tiers(data: Path, unit: str) -> None:
    resident, _ = opened(data, unit, "resident")
    streamed, _ = opened(data, unit, "streaming")
    clips = np.repeat(np.arange(36), 2)
    first = np.tile([0, int(resident.lengths.min()) - 3], 36)  # three units, and then the clip again or silence
    for last in ("repeat", "zero"):
        for order in (np.arange(72), np.random.default_rng(0).permutation(72)):
            draws = in_sequence(clips[order], first[order], 10)
            for _ in range(2):
                expected = windows(resident, draws, 100, last)
                found = windows(streamed, draws, 100, last)
                assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_statistics_and_labels_are_the_same_in_both_tiers(data: Path) -> None:
    resident, recipe = opened(data, "samples", "resident")
    others = [
        opened(data, "frames", "resident")[0],
        *(opened(data, unit, "streaming")[0] for unit in ("samples", "frames")),
    ]
    front_end = make_front_end(recipe)
    assert front_end is not None
    expected = standardization(resident.frames(front_end))
    assert expected.std[0] > 1
    for other in others:
        assert standardization(other.frames(front_end)) == expected
        assert other.groups == resident.groups
        assert np.array_equal(other.known_labels, resident.known_labels)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("logmel_cnn", BLOCKS),  # frames
        ("logmel_cnn", [*BLOCKS, "augment=lumen_best", "sampling=median", "thresholds_on=strong_sum"]),  # samples
        ("irmas_finetune", ["epochs=1", "window_s=0.4", "shuffle_clips=8", "batch_size=16"]),  # every half window
    ],
)
def test_both_tiers_learn_the_same_weights_and_figures_bit_for_bit(
    name: str, overrides: list[str], data: Path, tmp_path: Path
) -> None:
    runs = [
        trained(data, tmp_path / reading, *overrides, f"reading={reading}", name=name)
        for reading in ("resident", "streaming")
    ]
    assert [run["reading"] for run in runs] == ["resident", "streaming"]
    for file in ("model.safetensors", "metrics.json"):
        first, second = ((tmp_path / reading / file).read_bytes() for reading in ("resident", "streaming"))
        assert first == second, file


def test_a_streamed_run_stopped_within_an_epoch_goes_on_with_the_same_clips(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*BLOCKS, "sampling=max", "augment=time_shift", "reading=streaming"]
    trained(data, tmp_path / "whole", *overrides)
    save_checkpoint, written = train_run.checkpoints.save_checkpoint, []

    def stop(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        written.append(arguments)
        if len(written) == 7:  # of ten steps
            raise KeyboardInterrupt

    monkeypatch.setattr(train_run.checkpoints, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        trained(data, tmp_path / "stopped", *overrides, checkpoint_steps=1)
    monkeypatch.undo()
    trained(data, tmp_path / "stopped", *overrides)
    for name in ("model.safetensors", "config.json", "metrics.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_run_says_how_long_its_steps_waited_for_data(data: Path, tmp_path: Path) -> None:
    assert 0 < trained(data, tmp_path / "run", *SMALL, "epochs=1")["data_wait_share"] < 1
    assert trained(data, tmp_path / "run", *SMALL, "epochs=1")["data_wait_share"] is None


def test_the_stopwatch_counts_the_readers_time_as_waiting_and_the_callers_as_work() -> None:
    watch = Stopwatch()

    def slow() -> Iterator[Any]:
        for _ in range(3):
            time.sleep(0.03)
            yield torch.zeros(1), torch.zeros(1)

    for _ in watch.waiting_for(slow()):
        time.sleep(0.01)
    share = watch.share_waited()
    assert share is not None
    assert 0.6 < share < 0.9
    assert Stopwatch().share_waited() is None


# --- the order


def test_clips_are_shuffled_within_blocks_of_about_as_many_as_the_recipe_says(data: Path) -> None:
    clips, recipe = opened(data, "samples", "resident")
    assert clips.row_groups is not None
    order = examples(clips, np.arange(36), recipe, 0).clips
    assert sorted(order) == list(range(36))
    for begin in range(0, 36, 8):
        assert len(set(clips.row_groups[order[begin : begin + 8]])) <= 2
    altogether = examples(clips, np.arange(36), replace(recipe, shuffle_clips=4096), 0).clips
    assert len(set(clips.row_groups[altogether[:8]])) > 2


# --- the weighted sampler (M1)


@pytest.mark.parametrize(("sampling", "rule"), [("median", "median"), ("max", "max")])
def test_clips_are_drawn_with_the_papers_weights_in_every_epoch_anew(data: Path, sampling: str, rule: Any) -> None:
    clips, recipe = opened(data, "frames", "resident", f"sampling={sampling}")
    chosen = clips_to_learn_from(clips, recipe)
    epochs = [examples(clips, chosen, recipe, epoch) for epoch in range(300)]
    assert all(len(draws.clips) == len(chosen) for draws in epochs)  # as many steps as without
    assert not np.array_equal(epochs[0].clips, epochs[1].clips)
    assert np.array_equal(examples(clips, chosen, recipe, 7).clips, epochs[7].clips)
    counts = np.bincount(np.concatenate([draws.clips for draws in epochs]), minlength=36)
    weights = clip_weights(clips.known_labels[chosen], rule)
    expected = 300 * len(chosen) * weights / weights.sum()
    assert np.abs(counts[chosen] - expected).max() < 5 * np.sqrt(expected.max())
    assert weights.max() > 1.2 * weights.min()


def test_a_clip_that_is_drawn_twice_gives_two_windows(data: Path) -> None:
    clips, recipe = opened(data, "samples", "resident", "sampling=max")
    draws = [examples(clips, np.arange(36), recipe, epoch) for epoch in range(5)]
    long = int(clips.lengths.argmax())
    first = np.concatenate([one.first[one.clips == long] for one in draws if (one.clips == long).sum() > 1])
    assert len(first) > 1
    assert len(set(first.tolist())) == len(first)


def test_with_every_window_of_a_clip_an_epoch_draws_as_many_windows(data: Path) -> None:
    clips, recipe = opened(data, "samples", "resident", "sampling=median", "windows=all")
    every = examples(clips, np.arange(36), replace(recipe, sampling="uniform"), 0)
    drawn = examples(clips, np.arange(36), recipe, 0)
    assert len(drawn.clips) == len(every.clips) > 36
    assert set(zip(drawn.clips.tolist(), drawn.first.tolist(), strict=True)) < set(
        zip(every.clips.tolist(), every.first.tolist(), strict=True)
    )


# --- what fits


def test_what_takes_at_most_half_of_the_free_memory_is_resident() -> None:
    assert choose_tier("auto", 500, 1_000) == "resident"
    assert choose_tier("auto", 501, 1_000) == "streaming"
    assert choose_tier("resident", 501, 1_000) == "resident"
    assert choose_tier("streaming", 1, 1_000) == "streaming"


def test_a_containers_own_limit_counts(tmp_path: Path) -> None:
    assert _container_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert _container_limit(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert _container_limit(tmp_path) is None
    assert 1 << 20 < free_bytes(CPU) < 1 << 50


def test_a_splits_memory_is_that_of_its_samples_or_frames(data: Path) -> None:
    recipe = load_recipe("logmel_cnn", SMALL)
    table = open_table(data_of(data), "train", recipe)
    samples, _ = opened(data, "samples", "resident")
    frames, _ = opened(data, "frames", "resident")
    assert isinstance(samples, Clips)
    assert isinstance(frames, Clips)
    assert bytes_of(table, "samples", recipe) == samples.values.nbytes
    assert bytes_of(table, "frames", recipe) == frames.values.nbytes
    assert tier_of(table, "samples", recipe, data_of(data)) == "resident"  # a megabyte


def test_a_damaged_clip_is_named_by_either_tier(data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    path = broken / "data" / "train-00001-of-00003.parquet"
    content = bytearray(path.read_bytes())
    content[content.rfind(b"fLaC") + 1_000] ^= 255
    path.write_bytes(content)
    reseal(broken)
    for reading in ("resident", "streaming"):
        with pytest.raises(IntegrityError, match=r"train-00001-of-00003\.parquet: clip fixture/train/031@0"):
            trained(broken, tmp_path / reading, *SMALL, f"reading={reading}")


# --- hot copies


def test_a_hot_copy_is_written_once_and_learned_from_alike(data: Path, tmp_path: Path) -> None:
    plain = trained(data, tmp_path / "plain", *SMALL, "augment=time_shift")
    for run in ("first", "second"):
        hot = trained(data, tmp_path / run, *SMALL, "augment=time_shift", hot_copies=tmp_path / "cache")
        assert hot["test"] == plain["test"]
        assert (tmp_path / run / "model.safetensors").read_bytes() == (
            tmp_path / "plain" / "model.safetensors"
        ).read_bytes()
        copies = sorted((tmp_path / "cache" / "hot").glob("*.int16"))
        assert len(copies) == 3  # train, validation, test
    assert evaluate(load_run(tmp_path / "plain", CPU), read_manifest(data), "test", hot_copies=tmp_path / "cache")
    assert sorted((tmp_path / "cache" / "hot").glob("*.int16")) == copies


@pytest.mark.parametrize(
    ("flags", "expected"), [([], "cache/hot"), (["--hot-copy", "{}/mine"], "mine/hot"), (["--hot-copy", "off"], "")]
)
def test_the_flag_says_where_hot_copies_go_and_the_cache_is_the_default(
    flags: list[str], expected: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [part for override in (*SMALL, "epochs=1") for part in ("--set", override)]
    where = [flag.format(tmp_path) for flag in flags]
    arguments = ["--data", str(data), "--recipe", "logmel_cnn", "--output", str(tmp_path / "run"), *overrides, *where]
    assert train_run.main(arguments) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["reading"] == "resident"
    folders = sorted({str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*.int16")})
    assert folders == [expected] * bool(expected)


def test_a_cache_that_cannot_be_written_is_said_and_done_without(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTTI_CACHE_DIR", str(tmp_path / "file" / "cache"))
    overrides = [part for override in (*SMALL, "epochs=1") for part in ("--set", override)]
    assert (
        train_run.main(["--data", str(data), "--recipe", "logmel_cnn", "--output", str(tmp_path / "run"), *overrides])
        == 0
    )
    assert "file/cache: cannot be written, so audio is decoded anew" in capsys.readouterr().err


def test_the_cache_command_counts_hot_copies_and_collects_those_that_nobody_used_lately(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = default_cache_folder()
    assert cache == tmp_path / "cache"
    trained(data, tmp_path / "run", *SMALL, "epochs=1", hot_copies=cache)
    capsys.readouterr()
    assert cache_command(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["kinds"]["hot"]
    copies = sorted((cache / "hot").glob("*.int16"))
    checked = list((cache / "hot" / "checked").glob("*"))  # none where this process had checked them
    assert listed["count"] == 3 * 3 + len(checked)  # samples, list of parts, lock; and which shards were checked
    assert listed["num_bytes"] > sum(path.stat().st_size for path in copies) > 500_000

    long_ago = time.time() - 40 * 86_400
    for path in (cache / "hot").iterdir():
        os.utime(path, (long_ago, long_ago))
    recipe = load_recipe("logmel_cnn", SMALL)
    load_clips(data_of(data, cache), "train", recipe, unit="samples")  # used
    assert cache_command(["gc"]) == 0
    assert len(list((cache / "hot").glob("*.int16"))) == 1
    assert len(list((cache / "hot").glob("*.json"))) == 1
