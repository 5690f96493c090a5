"""Thousands of ways to damage a shard: training, exports and verify end in an error of our own, or read what is sound.

`TUTTI_MUTATIONS=5000` sets how many; the same seed gives the same ones. Half of them are what the manifest lists, as
a stranger's are.
"""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_fixture import mixture, reseal, write_dataset
from exported import FORMATS
from materials import read_split
from parquet_mutations import mutated

from tutti.datasets.errors import IntegrityError, TuttiError
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.pipelines.export.__main__ import export
from tutti.pipelines.relabel.page import candidates
from tutti.pipelines.verify.check import verify
from tutti.train.data import Data
from tutti.train.front_end import load_clips
from tutti.train.reading.hot_copy import hot_copy
from tutti.train.reading.order import in_sequence
from tutti.train.recipe import load_recipe

COUNT = max(48, int(os.environ.get("TUTTI_MUTATIONS", "0")))
SHARD = "data/train-00000-of-00001.parquet"
RECIPE = load_recipe("logmel_cnn", tiny=True)
STREAMED = load_recipe("logmel_cnn", ["reading=streaming"], tiny=True)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """Eight clips of 50 ms, all labels known or not."""
    rng = np.random.default_rng(0)
    examples = [mixture("train", number, rng, duration_s=0.05, unknown_share=0.5) for number in range(8)]
    return write_dataset(tmp_path / "version", examples)


def learned(manifest: Manifest, cache: Path) -> None:
    """What a run reads, in both tiers; whatever is read must be fit to learn from."""
    split, data = read_split(manifest, "train"), Data(manifest, torch.device("cpu"))
    assert set(np.unique(split.table.presence)) <= {-1, 0, 1}
    assert np.isfinite(split.table.remaining_gain_db(-12.0, 30.0)).all()
    assert hot_copy(manifest, "train", cache).samples.tobytes() == split.samples.tobytes()
    streamed = load_clips(data, "train", STREAMED, unit="samples")
    every = np.arange(len(streamed))
    for _, window in streamed.batches(in_sequence(every, np.zeros_like(every), 4), 400):
        assert torch.isfinite(window).all()
    load_clips(data, "train", RECIPE, unit="frames")


def relabelled(manifest: Manifest) -> None:
    for candidate in candidates(manifest, (), ()):
        assert candidate.labels.keys() <= set(manifest.instruments)


def outcome(action: Callable[[], Any]) -> str:
    """Carry out; any error that is not our own is the test's failure."""
    try:
        action()
    except TuttiError as error:
        return type(error).__name__ if "\n" not in str(error) else pytest.fail(f"more than one line: {error}")
    return "done"


def test_mutated_shards_are_refused_or_sound(version: Path, tmp_path: Path) -> None:
    sound, found = (version / SHARD).read_bytes(), Counter[str]()
    for number in range(COUNT):
        rng = random.Random(number)
        content = mutated(sound, rng)
        (version / SHARD).write_bytes(content)
        sealed = number % 2 == 1
        if sealed:
            reseal(version)
        manifest, output = read_manifest(version), tmp_path / "out"
        format_name = FORMATS[number // 2 % len(FORMATS)]
        actions: dict[str, Callable[[], Any]] = {
            "learn": partial(learned, manifest, tmp_path / "cache"),
            "export": partial(export, version, format_name, output),
            "relabel": partial(relabelled, manifest),
            "verify": partial(verify, manifest, "clips"),
        }
        for name, action in actions.items():
            came = outcome(action)
            found[f"{'sealed' if sealed else 'unsealed'} {name} {came}"] += 1
            if not sealed and content != sound and name != "verify":
                assert came == "IntegrityError", (number, name)
        for folder in (output, tmp_path / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        if sealed:
            (version / SHARD).write_bytes(sound)
            reseal(version)
    print(dict(sorted(found.items())))
    assert {key.split()[-1] for key in found} <= {"done", "IntegrityError", "UsageError"}


def test_a_flipped_bit_anywhere_in_a_shard_ends_training_and_export(version: Path, tmp_path: Path) -> None:
    sound, rng = (version / SHARD).read_bytes(), random.Random(0)
    for place in rng.sample(range(len(sound)), 40):
        content = bytearray(sound)
        content[place] ^= 1 << rng.randrange(8)
        (version / SHARD).write_bytes(content)
        manifest = read_manifest(version)
        with pytest.raises(IntegrityError, match=rf"{SHARD}.*run pipelines\.verify"):
            read_split(manifest, "train")
        with pytest.raises(IntegrityError, match=r"train-00000-of-00001\.parquet.*run pipelines\.verify"):
            export(version, "csv", tmp_path / "out")
        assert not (tmp_path / "out").exists()
