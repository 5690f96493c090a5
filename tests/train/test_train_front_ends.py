"""What reaches the network of a recipe: Kaldi's filter banks for AST, three views as red, green and blue."""

import json
from pathlib import Path

import numpy as np
import pytest
import signals
import torch
from dataset_fixture import SAMPLE_RATE, learnable_dataset, timbre
from materials import data_of, material_of

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import read_manifest
from tutti.train import predict
from tutti.train.features import KALDI, KaldiFbank, ThreeChannels
from tutti.train.features.fbank import FbankConfig, features
from tutti.train.front_end import evaluation_unit, load_clips, make_front_end, training_unit
from tutti.train.recipe import load_recipe, recipe_from_json, recipe_to_json
from tutti.train.run import train
from tutti.train.runs.saved import load_run
from tutti.train.tagger import make_tagger

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable_dataset(tmp_path_factory.mktemp("data"), num_train=24, num_others=8)


def noise(num_samples: int) -> torch.Tensor:
    return torch.from_numpy(signals.noise(num_samples / SAMPLE_RATE, sample_rate=SAMPLE_RATE, seed=1))


# --- Kaldi's filter banks


@pytest.mark.parametrize(
    ("num_samples", "frames"), [(1, 1), (399, 1), (400, 1), (559, 1), (560, 2), (48_000, 298), (160_000, 998)]
)
def test_kaldi_frames_lie_within_the_clip_and_every_clip_has_one(num_samples: int, frames: int) -> None:
    assert KALDI.num_frames(num_samples) == frames
    assert KaldiFbank(KALDI)(noise(num_samples)).shape == (1, frames, 128)


def test_the_network_of_ast_hears_what_its_own_preprocessor_gives() -> None:
    recipe = load_recipe("ast_finetune", ["standardize=audioset"])
    waveform_BT = noise(48_000)
    heard: list[torch.Tensor] = []

    class Listener(torch.nn.Module):
        def forward(self, logmel_BFM: torch.Tensor) -> torch.Tensor:
            heard.append(logmel_BFM)
            return logmel_BFM[:, 0, :11]

    from tutti.train.features import AUDIOSET_STATISTICS

    tagger = make_tagger(recipe, Listener(), AUDIOSET_STATISTICS)
    tagger(tagger.featurize(waveform_BT))
    expected = features([waveform_BT[0].numpy()], FbankConfig(), frames=298, device=CPU)
    assert heard[0].shape == (1, 298, 128)
    torch.testing.assert_close(heard[0], expected, atol=1e-4, rtol=0)


def test_silence_lies_on_kaldis_floor_and_so_does_what_follows_a_clip() -> None:
    assert KaldiFbank(KALDI)(torch.zeros(1, 800)).unique().tolist() == pytest.approx([KALDI.silence])
    assert KALDI.silence == pytest.approx(-15.9424)


def test_audiosets_statistics_need_no_look_at_the_data(data: Path) -> None:
    recipe = load_recipe("ast_finetune", tiny=True)
    statistics = material_of(recipe, data).statistics
    assert statistics is not None
    assert set(statistics.mean) == {-4.2677393}
    assert set(statistics.std) == {9.1379948}
    by_data = load_recipe("ast_finetune", ["standardize=data"], tiny=True)
    other = material_of(by_data, data).statistics
    assert other is not None
    assert len(set(other.mean)) == 128


# --- three views


def test_an_image_of_rgb_is_mel_chroma_and_scalogram_as_vision_weights_expect_them() -> None:
    recipe = load_recipe("lumen_convnext_rgb", ["image.height=128", "image.width=301"])
    seen: list[torch.Tensor] = []

    class Viewer(torch.nn.Module):
        def forward(self, image_BKHW: torch.Tensor) -> torch.Tensor:
            seen.append(image_BKHW)
            return image_BKHW[:, 0, 0, :11]

    tagger = make_tagger(recipe, Viewer(), None)
    waveform_BT = noise(48_000)
    tagger(tagger.featurize(waveform_BT))
    views = ThreeChannels()(waveform_BT)
    assert views.shape == (1, 3, 128, 300)
    assert seen[0].shape == (1, 3, 128, 301)
    narrow = make_tagger(load_recipe("lumen_convnext_rgb", ["image.height=128", "image.width=300"]), Viewer(), None)
    narrow(narrow.featurize(waveform_BT))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for channel in range(3):
        expected = (views[0, channel] - mean[channel]) / std[channel]
        torch.testing.assert_close(seen[1][0, channel], expected, atol=1e-5, rtol=0)


def test_images_of_rgb_are_cut_from_samples_and_their_front_end_has_no_weights() -> None:
    recipe = load_recipe("lumen_convnext_rgb")
    assert (evaluation_unit(recipe), training_unit(recipe, varies_waveforms=False)) == ("samples", "samples")
    assert evaluation_unit(load_recipe("lumen_convnext_fluffy")) == "frames"
    front_end = make_front_end(recipe)
    assert front_end is not None
    assert not any(weight.requires_grad for weight in front_end.parameters())
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe


def test_what_changes_log_mel_is_refused_where_there_is_none(data: Path) -> None:
    recipe = load_recipe("lumen_convnext_rgb", ["augment=frequency_mask"], tiny=True)
    with pytest.raises(UsageError, match=r"augment=frequency_mask changes log-mel, and image\.channels=rgb has none"):
        material_of(recipe, data)


def test_another_sample_rate_is_refused_for_rgb() -> None:
    overrides = ["features.max_frequency_hz=4000", "features.sample_rate=8000"]
    with pytest.raises(UsageError, match="is made for 16000 Hz, not 8000"):
        make_front_end(load_recipe("lumen_convnext_rgb", overrides))


def test_a_run_on_rgb_streams_and_hears_files(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe("lumen_convnext_rgb", ["epochs=1", "reading=streaming"], tiny=True)
    assert load_clips(data_of(data), "train", recipe, unit="samples").unit == "samples"
    summary = train(recipe, read_manifest(data), output=tmp_path / "run")
    assert summary["reading"] == "streaming"
    path = tmp_path / "flute.wav"
    path.write_bytes(signals.encoded(timbre("flute", 1.0, np.random.default_rng(0)), sample_rate=SAMPLE_RATE))
    found = predict.predict_file(path, load_run(tmp_path / "run", CPU))
    assert sorted(found["probabilities"]) == ["cello", "flute", "piano", "voice"]
    assert len(found["chunks"]) == 2
