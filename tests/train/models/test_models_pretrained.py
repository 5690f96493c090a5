import dataclasses
import re
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.train.model import load_model
from tutti.train.pretrained import Wanted, load_backbone, transformers, weights_folder

REMEDY = (
    r"fetch the weights where there is a network with `hf download someone/model model.safetensors --local-dir DIR`"
)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub cache with nothing in it, and no way to the hub."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TUTTI_OFFLINE", "1")


@pytest.mark.usefixtures("empty_cache")
def test_weights_that_cannot_be_fetched_offline_say_how_to_get_them() -> None:
    with pytest.raises(UsageError, match=f"weights someone/model: offline is asked for, .*; {REMEDY}"):
        weights_folder(Wanted("someone/model"))
    with pytest.raises(UsageError, match=r"hf download someone/model model.safetensors --revision v2 --local-dir DIR"):
        weights_folder(Wanted("someone/model@v2"))


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize(
    ("name", "input_size"),
    [("ast", 128), ("convnext", 3), ("efficientnetv2_s", 3), ("mobilenetv3_large", 3), ("resnext50", 3),
     ("sincnet_resnet", 16_000), ("wav2vec_conv", 16_000)],
)  # fmt: skip
def test_every_model_with_weights_asks_for_them_the_same_way(name: str, input_size: int) -> None:
    module = load_model(name)
    with pytest.raises(UsageError, match=r"weights someone/model: offline is asked for.*or set weights= for random"):
        module.build(dataclasses.replace(module.TINY, weights="someone/model"), input_size, 2)  # type: ignore[attr-defined]


def test_what_is_neither_folder_nor_name_is_refused() -> None:
    with pytest.raises(UsageError, match="'convnext': neither a folder nor a name of the hub; fetch the weights"):
        weights_folder(Wanted("convnext"))


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{re.escape(str(tmp_path))}: lacks model.safetensors; fetch the weights"):
        weights_folder(Wanted(str(tmp_path)))


def resnext(seed: int = 0, *, channels: int = 3, **changes: object) -> torch.nn.Module:
    module = load_model("resnext50")
    torch.manual_seed(seed)
    return module.build(dataclasses.replace(module.TINY, **changes), channels, 2).eval()  # type: ignore[attr-defined]


def timm_file(folder: Path) -> Path:
    """Weights in timm's names: no prefix, and a classifier that is not ours."""
    folder.mkdir()
    weights = {name.removeprefix("backbone."): value for name, value in resnext().state_dict().items()}
    kept = {name: value.contiguous() for name, value in weights.items() if not name.startswith("head.")}
    kept = {name: value for name, value in kept.items() if not name.endswith("num_batches_tracked")}
    save_file(kept | {"fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}, folder / "model.safetensors")
    return folder


def test_a_file_in_timms_names_fills_the_backbone(tmp_path: Path) -> None:
    folder = timm_file(tmp_path / "timm")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    loaded = resnext(1, weights=str(folder))
    assert torch.equal(loaded.embed(images), resnext().embed(images))  # type: ignore[operator]
    assert not torch.equal(resnext(1).embed(images), resnext().embed(images))  # type: ignore[operator]


def test_one_channel_hears_what_three_equal_ones_would(tmp_path: Path) -> None:
    folder = timm_file(tmp_path / "timm")
    image = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    single = resnext(1, channels=1, weights=str(folder)).embed(image)  # type: ignore[operator]
    assert torch.allclose(single, resnext().embed(image.repeat(1, 3, 1, 1)), atol=1e-5)  # type: ignore[operator]


def test_weights_of_another_size_are_refused_with_the_first_that_does_not_fit(tmp_path: Path) -> None:
    folder = timm_file(tmp_path / "timm")
    with pytest.raises(UsageError, match=r"weights of another model: \d+ of \d+ .* the first is conv1.weight"):
        resnext(stem=16, weights=str(folder))


def test_a_damaged_file_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    folder = timm_file(tmp_path / "timm")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match=r"damaged .*; fetch it again"):
        load_backbone(resnext().backbone, str(folder))  # type: ignore[arg-type]


def write_convnext(folder: Path) -> Path:
    library = transformers()
    torch.manual_seed(5)
    library.ConvNextForImageClassification(
        library.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1])
    ).save_pretrained(folder)
    return folder


def test_published_convnext_weights_fill_the_backbone(tmp_path: Path) -> None:
    folder = write_convnext(tmp_path / "convnext")
    module = load_model("convnext")
    model = module.build(dataclasses.replace(module.TINY, weights=str(folder)), 3, 2).eval()  # type: ignore[attr-defined]
    published = transformers().ConvNextModel.from_pretrained(folder).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(model.embed(images), published(images).pooler_output, atol=1e-6)  # type: ignore[operator]


def test_convnext_weights_that_lack_a_layer_are_refused_and_not_drawn_at_random(tmp_path: Path) -> None:
    folder = write_convnext(tmp_path / "convnext")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if name.endswith("dwconv.weight"))
    save_file({name: value for name, value in weights.items() if name != lost}, folder / "model.safetensors")
    module = load_model("convnext")
    with pytest.raises(UsageError, match=r"not those of a ConvNextModel: 1 weights are missing .*dwconv.weight"):
        module.build(dataclasses.replace(module.TINY, weights=str(folder)), 3, 2)  # type: ignore[attr-defined]


def test_wav2vec_weights_bring_their_convolutions(tmp_path: Path) -> None:
    library = transformers()
    sizes = {"conv_dim": (8, 12), "conv_kernel": (10, 8), "conv_stride": (5, 4), "num_feat_extract_layers": 2}
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(5)
    published = library.Wav2Vec2Model(library.Wav2Vec2Config(**sizes, **small)).eval()
    published.save_pretrained(tmp_path / "wav2vec")
    module = load_model("wav2vec_conv")
    config = dataclasses.replace(module.TINY, weights=str(tmp_path / "wav2vec"))  # type: ignore[attr-defined]
    model = module.build(config, 16_000, 2).eval()
    waveform = torch.randn(2, 4_000, generator=torch.Generator().manual_seed(0))
    scaled = (waveform - waveform.mean(1, keepdim=True)) / waveform.std(1, keepdim=True, unbiased=False)
    with torch.inference_mode():
        expected = published.feature_extractor(scaled).transpose(1, 2)
        assert torch.allclose(model.backbone(waveform), expected, atol=1e-5)  # type: ignore[operator]
    with pytest.raises(ValueError, match="published weights hear 16000 Hz, got 8000"):
        module.build(config, 8_000, 2)


def test_random_weights_need_no_hub_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name, input_size in (("convnext", 3), ("ast", 128), ("wav2vec_conv", 16_000), ("mobilenetv3_large", 3)):
        module = load_model(name)
        assert sum(1 for _ in module.build(module.TINY, input_size, 2).parameters()) > 10  # type: ignore[attr-defined]
