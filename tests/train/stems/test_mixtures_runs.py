"""Runs on mixtures of stems, from shards: learned, resumed, streamed, and the three forms of transfer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_fixture import learnable_dataset
from materials import data_of, material_of
from safetensors.torch import load_file
from stems import Song, Stem, learnable_songs, write_songs

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import read_manifest
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.train.data import open_table
from tutti.train.evaluate import evaluate
from tutti.train.fitting.loop import seed_weights
from tutti.train.mixtures_recipe import MixturesRecipe
from tutti.train.recipe import load_recipe
from tutti.train.run import train
from tutti.train.runs.saved import MODEL, load_run
from tutti.train.stems.audio import ResidentStems, StreamedStems
from tutti.train.stems.clips import open_mixtures
from tutti.train.stems.songs import read_stems
from tutti.train.tasks.mixtures import MixturesTagging

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable_songs(tmp_path_factory.mktemp("songs"))


def tiny(*overrides: str) -> MixturesRecipe:
    """Take fewer and shorter mixtures than the tiny form."""
    fewer = ("window_s=0.8", "mixing.mixes_per_epoch=64", "mixing.num_validation=64", "mixing.num_test=64")
    recipe: MixturesRecipe = load_recipe("mixtures_transfer", [*fewer, *overrides], tiny=True)
    return recipe


@pytest.fixture(scope="module")
def scratch(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Summary of a tiny run from scratch."""
    torch.set_num_threads(1)
    return train(
        tiny("epochs=6", "mixing.mixes_per_epoch=160"),
        read_manifest(songs),
        output=tmp_path_factory.mktemp("runs") / "scratch",
    )


# --- what is read


def test_stems_are_read_with_the_spans_in_which_they_sound(tmp_path: Path) -> None:
    song = Song(
        "corpus", "song", "train", (Stem("piano", ((0.5, 1.0), (1.0, 2.0))), Stem("cello", (), ("voice",))), 3.0
    )
    data = data_of(write_songs(tmp_path, [song]))
    stems = read_stems(open_table(data, "train", tiny()), data.manifest)
    assert (stems.corpora, stems.songs, len(stems)) == (("corpus",), ("corpus/song",), 2)
    assert stems.rows.tolist() == [0, 1]  # the third row is the mix
    assert stems.presence.tolist() == [[ABSENT, ABSENT, PRESENT, ABSENT], [PRESENT, ABSENT, ABSENT, UNKNOWN]]
    assert [stems.sounding(stem, 0, 48_000) for stem in (0, 1)] == [24_000, 0]
    assert (stems.sounding(0, 0, 8_000), stems.sounding(0, 16_000, 17_000)) == (0, 1_000)


def test_data_without_stems_are_refused_in_words(tmp_path: Path) -> None:
    data = learnable_dataset(tmp_path / "data", num_train=4, num_others=2)
    with pytest.raises(UsageError, match="holds no stems; build a dataset of songs of stems, such as slakh"):
        material_of(tiny(), data)


def test_streamed_stems_are_the_resident_ones_and_only_chunks_are_decoded(
    songs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(songs)
    table = open_table(data, "train", tiny())
    mixtures = [
        open_mixtures(data, "train", table, tiny(f"compute.reading={tier}"), tiny().mixing, seed=0)
        for tier in ("resident", "streaming")
    ]
    assert isinstance(mixtures[0].mixer.audio, ResidentStems)
    assert isinstance(mixtures[1].mixer.audio, StreamedStems)
    decoded = []
    whole = type(table).decode_part

    def counted(self: Any, path: Path, clip: int, audio: Any, first: int, part: Any) -> None:
        decoded.append(len(part))
        whole(self, path, clip, audio, first, part)

    monkeypatch.setattr(type(table), "decode_part", counted)
    numbers = [(0, index) for index in range(20)]
    expected, found = (part.mixer.batch(numbers) for part in mixtures)
    assert torch.equal(expected[0], found[0])
    assert torch.equal(expected[1], found[1])
    assert len(decoded) > 20
    assert set(decoded) == {12_800}  # .8 s of stems of 6 s


def test_a_chunk_beyond_a_shorter_stems_end_is_silent_in_both_tiers(tmp_path: Path) -> None:
    song = Song("c", "s", "train", (Stem("piano", ((0.0, 1.0),), duration_s=1.0), Stem("cello", ((0.0, 3.0),))), 3.0)
    data = data_of(write_songs(tmp_path, [song]))
    table = open_table(data, "train", tiny())
    rows, first = np.array([0, 0, 1]), np.array([8_000, 40_000, 40_000])
    streamed = StreamedStems(table).windows(rows, first, 16_000)
    mixtures = open_mixtures(data, "train", table, tiny("compute.reading=resident"), tiny().mixing, seed=0)
    assert torch.equal(streamed, mixtures.mixer.audio.windows(rows, first, 16_000))
    assert [int((row != 0).sum()) > 1000 for row in streamed] == [True, False, True]
    assert (streamed[0, 8_000:] == 0).all()


def test_a_shard_that_changes_while_it_is_streamed_is_an_error(tmp_path: Path) -> None:
    song = Song("c", "s", "train", (Stem("piano", ((0.0, 2.0),)),), 2.0)
    data = data_of(write_songs(tmp_path, [song]))
    table = open_table(data, "train", tiny())
    audio = StreamedStems(table)
    (shard,) = tmp_path.glob("data/train*")
    shard.write_bytes(shard.read_bytes())
    with pytest.raises(IntegrityError, match=r"train-.*changed while it was read"):
        audio.windows(np.array([0]), np.array([0]), 100)


def test_validation_and_test_are_the_same_musical_mixtures_for_every_run(songs: Path) -> None:
    one, other = (
        MixturesTagging.of(tiny(*overrides), data_of(songs)).load_split(data_of(songs), "test")
        for overrides in (("seed=0", "mixing.p_musical=0"), ("seed=3", "mixing.p_musical=1"))
    )
    assert len(one) == 64
    assert torch.equal(one.values, other.values)  # type: ignore[union-attr]
    assert torch.equal(one.presence, other.presence)


# --- what is learned


def test_the_tiny_form_beats_the_best_constant_and_reports_areas_and_loss(scratch: dict[str, Any]) -> None:
    assert scratch["reading"] == "resident"
    test = scratch["test"]
    assert test["model"]["roc_auc"] > 0.75
    assert test["model"]["map"] > test["constant"]["map"] + 0.1
    assert test["model"]["micro_f1"] > test["constant"]["micro_f1"]
    assert test["model"]["macro_f1"] > test["constant"]["macro_f1"]
    metrics = json.loads((Path(scratch["output"]) / "metrics.json").read_text())["splits"]["test"]
    assert {"f1", "roc_auc", "average_precision"} <= metrics["per_class"]["cello"].keys()
    assert 0 < metrics["model"]["loss"] < 0.7


def test_its_run_is_scored_again_on_stems_and_on_clips(scratch: dict[str, Any], songs: Path, tmp_path: Path) -> None:
    run = load_run(Path(scratch["output"]), CPU)
    again = evaluate(run, read_manifest(songs), "test")
    report = json.loads((Path(scratch["output"]) / "metrics.json").read_text())["splits"]["test"]
    assert {key: again[key] for key in report} == report
    clips = learnable_dataset(tmp_path / "clips", num_train=2, num_others=12)
    assert evaluate(run, read_manifest(clips), "test")["num_clips"] == 12


def test_a_stopped_run_goes_on_bit_for_bit_also_streamed(songs: Path, tmp_path: Path) -> None:
    whole, parts = tiny("epochs=2"), tmp_path / "parts"
    train(whole, read_manifest(songs), output=tmp_path / "whole")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tutti.train.fitting.loop.Loop.validate_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(whole, read_manifest(songs), output=parts, checkpoint_steps=3)
    train(whole, read_manifest(songs), output=parts)
    streamed = replace(whole, compute=replace(whole.compute, reading="streaming"))
    summary = train(streamed, read_manifest(songs), output=tmp_path / "streamed")
    assert summary["reading"] == "streaming"
    expected = load_file(tmp_path / "whole" / MODEL)
    for other in (parts, tmp_path / "streamed"):
        found = load_file(other / MODEL)
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_frozen_backbone_keeps_its_weights_and_the_statistics_of_its_batch_norms(
    scratch: dict[str, Any], songs: Path, tmp_path: Path
) -> None:
    recipe = tiny("epochs=1", "transfer=frozen", f"model_config.weights={scratch['output']}")
    summary = train(recipe, read_manifest(songs), output=tmp_path / "run")
    before, after = load_file(Path(scratch["output"]) / MODEL), load_file(tmp_path / "run" / MODEL)
    backbone = [name for name in before if name.startswith("backbone.")]
    assert {name.rpartition(".")[2] for name in backbone} >= {"weight", "running_mean", "running_var"}
    assert all(torch.equal(before[name], after[name]) for name in backbone)
    assert not torch.equal(before["head.1.weight"], after["head.1.weight"])
    assert summary["parameters"] == sum(after[name].numel() for name in after if is_trained_head(name))


def is_trained_head(name: str) -> bool:
    return name.startswith("head.") and "running" not in name and "tracked" not in name


def test_a_fine_tuned_backbone_learns_at_a_rate_of_its_own(
    scratch: dict[str, Any], songs: Path, tmp_path: Path
) -> None:
    recipe = tiny("epochs=1", "transfer=fine_tuned", f"model_config.weights={scratch['output']}")
    assert (recipe.optimize.learning_rate, recipe.optimize.backbone_learning_rate) == (0.01, 1e-4)
    train(recipe, read_manifest(songs), output=tmp_path / "run")
    before, after = load_file(Path(scratch["output"]) / MODEL), load_file(tmp_path / "run" / MODEL)
    moved = (before["backbone.blocks.0.0.weight"] - after["backbone.blocks.0.0.weight"]).abs()
    assert 0 < float(moved.max()) < 8 * 1e-4 * 1.5  # eight steps of Adam


def test_the_recipe_is_the_papers() -> None:
    recipe = load_recipe("mixtures_transfer")
    assert (recipe.features.n_mels, recipe.features.n_fft, recipe.features.hop_length) == (128, 512, 256)
    assert (recipe.window_s, recipe.mixing.p_musical) == (4.0, 0.4)
    optimize = recipe.optimize
    assert (optimize.optimizer, optimize.learning_rate, optimize.schedule, optimize.drop_epochs) == (
        "adam", 0.01, "step", 20,
    )  # fmt: skip
    seed_weights(0)
    network = MixturesTagging(recipe, tuple("abcdefghijklmno")).network()
    assert [block[0].out_channels for block in network.backbone.blocks][-1] == 512  # type: ignore[union-attr]
    assert len(network.backbone.blocks) == 7  # type: ignore[union-attr, arg-type]
    maps = network.backbone.blocks(torch.zeros(1, 1, recipe.window_frames, 128))  # type: ignore[union-attr, operator]
    assert maps.shape == (1, 512, 2, 1)  # 250 frames of 4 s
    assert network(torch.zeros(2, 250, 128)).shape == (2, 15)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("transfer=frozen",), "transfer=frozen takes a backbone that was trained before; give --weights RUN"),
        (("transfer=fine_tuned",), "transfer=fine_tuned takes a backbone that was trained before"),
        (("model_config.weights=runs/x",), "transfer=scratch begins with random weights, not runs/x"),
    ],
)
def test_a_form_of_transfer_without_what_it_begins_with_is_refused(
    overrides: tuple[str, ...], message: str, songs: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        MixturesTagging.of(tiny(*overrides), data_of(songs))
