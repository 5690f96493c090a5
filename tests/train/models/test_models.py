"""The contract of train/model.py, held against every file in train/models/."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.train.model import count_parameters, input_kind, load_model, model_names, tiny_config
from tutti.train.recipe import load_recipe, recipe_from_json, recipe_to_json, with_override

NUM_CLASSES = 3
SAMPLE_RATE = 16_000

# input_size, and two lengths: frames, samples, pixels, seconds.
SIZES = {
    "logmel": (64, 64, 101),
    "waveform": (SAMPLE_RATE, 4_000, 7_000),
    "image": (3, 64, 101),
    "vggish": (128, 10, 20),
    "features": (28, 1, 1),
}

# Where a gradient of zero is right: a bias on attention's keys moves all scores of a query alike.
WITHOUT_GRADIENT = {"ast": "k_proj.bias"}

NAMES = model_names()
BY_GRADIENT = [name for name in NAMES if name != "multilabel_svm"]


# Steps of Adam; more where frequency is averaged away, so that only the edges of the bands tell a class.
KNOWN_BY_HEART = 0.05  # loss; .1 is asked for
STEPS = {"conv_lstm": 240, "spectral_conv": 160, "mobnet": 30, "logmel_cnn": 30}
RATES = {"conv_lstm": 5e-3}


pytestmark = pytest.mark.usefixtures("one_thread")


def build(name: str, *, seed: int = 0, num_classes: int = NUM_CLASSES) -> nn.Module:
    torch.manual_seed(seed)
    module = load_model(name)
    return module.build(tiny_config(name), SIZES[input_kind(name)][0], num_classes)


def clips(kind: str, presence_BC: Tensor, length: int, *, seed: int = 0) -> Tensor:
    """Noise, and in it for every present class a pattern of its own: a tone, bands, or numbers."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    size, count = SIZES[kind][0], len(presence_BC)
    present = presence_BC.float()
    if kind == "waveform":
        time_s = torch.arange(length) / SAMPLE_RATE
        tones_CT = torch.stack([torch.sin(2 * math.pi * hz * time_s) for hz in (300.0, 1_100.0, 3_700.0)])
        return 0.3 * present @ tones_CT + 0.02 * noise(count, length)
    wide = 64 if kind == "image" else size
    patterns_CM = torch.zeros(NUM_CLASSES, wide)
    for index in range(NUM_CLASSES):
        patterns_CM[index, index * wide // 4 : (index + 1) * wide // 4] = 2
    boost_BM = present @ patterns_CM
    if kind == "features":
        return boost_BM + 0.2 * noise(count, size)
    series_BFM = boost_BM[:, None] + 0.2 * noise(count, length, wide)
    return series_BFM.transpose(1, 2)[:, None].repeat(1, size, 1, 1) if kind == "image" else series_BFM


def sixteen(kind: str, which: int = 1) -> tuple[Tensor, Tensor]:
    """Sixteen clips of the first or second length, every mixture of the classes twice."""
    presence_BC = torch.tensor([[clip >> index & 1 for index in range(NUM_CLASSES)] for clip in range(16)])
    return clips(kind, presence_BC, SIZES[kind][which]), presence_BC.float()


def eight(kind: str) -> tuple[Tensor, Tensor]:
    """Every mixture once: clip 0 of no class, clip 7 of all."""
    inputs, presence_BC = sixteen(kind)
    return inputs[:8], presence_BC[:8]


def overfit(model: nn.Module, inputs: Tensor, presence_BC: Tensor, *, steps: int, rate: float) -> float:
    """The last loss; it stops when the clips are known by heart."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    loss = math.inf
    for _ in range(steps):
        value = F.binary_cross_entropy_with_logits(model(inputs), presence_BC)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss = value.item()
        if loss < KNOWN_BY_HEART:
            break
    # Batch norms catch up with weights that moved fast: their statistics become those of one last look.
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the plain mean of what is seen from now on
    with torch.no_grad():
        model(inputs)
    return loss


def test_every_model_of_the_papers_is_there() -> None:
    assert NAMES == [
        "ast", "att", "bilstm_attention", "conv_lstm", "convnext", "efficientnetv2_s", "logmel_cnn", "lstm",
        "mobilenetv3_large", "mobnet", "multilabel_svm", "resnext50", "sincnet_resnet", "spectral_conv", "vgg7",
        "wav2vec_conv",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_two_lengths_of_input_become_one_logit_per_class(name: str) -> None:
    model = build(name).eval()
    for which in (1, 2):
        logits = model(sixteen(input_kind(name), which)[0][:2])
        assert logits.shape == (2, NUM_CLASSES)
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_the_gradient_reaches_every_weight(name: str) -> None:
    model = build(name)
    inputs, presence = sixteen(input_kind(name))
    F.binary_cross_entropy_with_logits(model(inputs), presence).backward()
    unreached = {
        key for key, weight in model.named_parameters() if weight.grad is None or not (weight.grad.abs() > 1e-12).any()
    }
    assert {key for key in unreached if not key.endswith(WITHOUT_GRADIENT.get(name, "/"))} == set()


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_head_and_something_else_are_trained(name: str) -> None:
    parts = {key.startswith("head.") for key, weight in build(name).named_parameters() if weight.requires_grad}
    assert parts == {True, False}


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_sixteen_clips_are_learned_by_heart(name: str) -> None:
    model = build(name)
    inputs, presence = sixteen(input_kind(name))
    assert overfit(model, inputs, presence, steps=STEPS.get(name, 80), rate=RATES.get(name, 1e-2)) < 0.1
    with torch.inference_mode():
        assert torch.equal((model.eval()(inputs) > 0).float(), presence)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_weights_give_equal_logits(name: str, tmp_path: Path) -> None:
    model, other = build(name), build(name, seed=1)
    inputs, presence = eight(input_kind(name))
    if hasattr(model, "fit"):
        model.fit(inputs.numpy(), presence.to(torch.int8).numpy())
    else:
        overfit(model, inputs, presence, steps=2, rate=1e-2)  # batch norms have seen something
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.inference_mode():
        expected = model.eval()(inputs)
        assert torch.equal(other.eval()(inputs), expected)
        assert expected.std() > 0


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_the_seed_decides_the_weights(name: str) -> None:
    first, same, other = (build(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(same[key], value) for key, value in first.items())
    assert any(not torch.equal(other[key], value) for key, value in first.items())


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_deterministic_and_rows_do_not_see_each_other(name: str) -> None:
    model = build(name)
    inputs, presence = eight(input_kind(name))
    if hasattr(model, "fit"):
        model.fit(inputs.numpy(), presence.to(torch.int8).numpy())
    else:
        overfit(model, inputs, presence, steps=2, rate=1e-2)
    with torch.inference_mode():
        whole = model.eval()(inputs)
        assert torch.equal(model(inputs), whole)
        alone = torch.cat([model(clip[None]) for clip in inputs])
        assert torch.allclose(alone, whole, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(whole[0], whole[7], atol=1e-4)  # no class, all classes


@pytest.mark.parametrize("name", NAMES)
def test_the_config_survives_json_and_set(name: str) -> None:
    recipe = with_override(load_recipe("logmel_cnn"), f"model={name}")
    recipe = dataclasses.replace(recipe, model_config=tiny_config(name))
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe
    for item in dataclasses.fields(recipe.model_config):
        value = getattr(recipe.model_config, item.name)
        assert with_override(recipe, f"model_config.{item.name}={value}") == recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"),  # one with kernels; whether a network can be traced, and what comes of it, the other shows
    [
        ("att", "inductor"),
        *((name, "aot_eager") for name in ("conv_lstm", "resnext50", "sincnet_resnet", "spectral_conv")),
    ],
)
def test_a_compiled_model_gives_the_same_logits_and_gradients(name: str, backend: str) -> None:
    model = build(name).eval()  # no dropout: the two would draw other masks
    inputs, presence = sixteen(input_kind(name))
    torch.compiler.reset()  # or the shapes of the models before would make this one's dynamic
    compiled = torch.compile(model, backend=backend)
    losses = {}
    gradients = {}
    for kind, network in (("plain", model), ("compiled", compiled)):
        model.zero_grad()
        loss = F.binary_cross_entropy_with_logits(network(inputs), presence)
        loss.backward()
        losses[kind] = loss.item()
        gradients[kind] = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    assert losses["compiled"] == pytest.approx(losses["plain"], abs=1e-5)
    assert len(gradients["compiled"]) == len(gradients["plain"]) > 0
    for plain, other in zip(gradients["plain"], gradients["compiled"], strict=True):
        assert torch.allclose(other, plain, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "settings", "input_size", "num_weights"),
    [
        # Published counts, of networks with ImageNet's thousand classes.
        ("convnext", {"size": "small"}, 3, 50_223_688),
        ("convnext", {"size": "base"}, 3, 88_591_464),
        ("resnext50", {}, 3, 25_028_904),
        ("efficientnetv2_s", {}, 3, 21_458_488),
        ("mobilenetv3_large", {}, 3, 5_483_032),
    ],
)
def test_published_sizes_are_met_to_the_last_weight(
    name: str, settings: dict[str, str], input_size: int, num_weights: int
) -> None:
    module = load_model(name)
    with torch.device("meta"):  # counts without computing
        model = module.build(module.Config(head_widths="", **settings), input_size, 1000)
    assert count_parameters(model) == num_weights


def test_an_image_may_have_one_channel_or_three() -> None:
    module = load_model("mobilenetv3_large")
    assert module.build(module.TINY, 1, 2).eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 2)
    with pytest.raises(ValueError, match="images have 1 or 3 channels, got 2"):
        module.build(module.TINY, 2, 2)


def test_a_network_of_one_class_leaves_the_others_of_a_mobnet_as_they_are() -> None:
    model = build("mobnet", num_classes=2).eval()
    images, _ = sixteen("image")
    with torch.no_grad():
        before = model(images)
        model.add_class()
        after = model.eval()(images)
    assert after.shape == (16, 3)
    assert torch.equal(after[:, :2], before)
    trained = {key for key, weight in model.named_parameters() if weight.requires_grad}
    assert {key.split(".")[1] for key in trained} == {"2"}
    F.binary_cross_entropy_with_logits(model(images)[:, 2], torch.ones(16)).backward()
    assert all(weight.grad is None for weight in model.backbones[0].parameters())
