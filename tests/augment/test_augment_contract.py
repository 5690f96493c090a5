"""What every transform of the registry keeps to."""

import dataclasses
from dataclasses import replace

import pytest
import torch
from augmenting import generator, made, silent, suited

from tutti.augment.transform import Transform, load_transform, on_device, parameter_rows, transform_names
from tutti.augment.transforms.background_noise import BackgroundNoise
from tutti.datasets.errors import UsageError

NAMES = transform_names()
FACTOR = {"concat_n": 3}  # how much longer the result is
MIXING = {"concat_n", "concat_same_instrument", "exponential_n", "mixup", "sum_with_n"}
TOLERANCE = {"pitch_shift": 1e-3, "time_stretch": 1e-3}  # weak bins have no stable phase: rounding moves them
FIXED = {"polarity_inversion", "renormalize", "time_inversion"}  # nothing random


def test_the_registry_holds_the_papers_transforms() -> None:
    assert set(NAMES) == {
        "background_noise", "colored_noise", "concat_n", "concat_same_instrument", "delay", "exponential_n",
        "frequency_mask", "gain", "high_pass", "high_shelf", "low_pass", "low_shelf", "mixup", "peaking",
        "pitch_shift", "polarity_inversion", "random_erasing", "random_pixel_erasing", "renormalize", "reverb",
        "sum_with_n", "time_inversion", "time_mask", "time_shift", "time_stretch",
    }  # fmt: skip


def test_an_unknown_transform_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        UsageError, match=r"unknown transform 'pich_shift' \(did you mean 'pitch_shift'\?\); known: back"
    ):
        load_transform("pich_shift")


@pytest.mark.parametrize("name", NAMES)
def test_settings_cannot_be_changed(name: str) -> None:
    transform = made(name)
    fields = dataclasses.fields(transform)  # type: ignore[arg-type]
    for field in fields:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(transform, field.name, None)
    assert (len(fields) == 0) == (name in FIXED - {"renormalize"})


@pytest.mark.parametrize("name", NAMES)
def test_the_result_has_the_form_of_the_input_and_the_input_stays_as_it_was(name: str) -> None:
    transform = made(name)
    batch = suited(transform)
    before = batch.signal.clone(), batch.targets.target.clone(), batch.targets.mask.clone()
    result = transform(batch, generator())
    expected = list(batch.signal.shape)
    expected[1] *= FACTOR.get(name, 1)
    assert list(result.signal.shape) == expected
    assert transform.keeps_length == (name not in FACTOR)
    assert result.signal.dtype == torch.float32
    assert result.signal.isfinite().all()
    assert not torch.equal(result.signal, batch.signal)
    assert torch.equal(batch.signal, before[0])
    assert torch.equal(batch.targets.target, before[1])
    assert torch.equal(batch.targets.mask, before[2])


@pytest.mark.parametrize("name", NAMES)
def test_labels_stay_unless_clips_are_mixed_and_are_always_in_range(name: str) -> None:
    transform = made(name)
    batch = suited(transform)
    batch = replace(batch, targets=replace(batch.targets, mask=batch.targets.mask.clone()))
    batch.targets.mask[0, 4] = False
    result = transform(batch, generator())
    if name not in MIXING:
        assert result.targets is batch.targets
    assert ((result.targets.target >= 0) & (result.targets.target <= 1)).all()
    assert (result.targets.target[~result.targets.mask] == 0).all()
    assert result.presence.dtype == torch.int8


@pytest.mark.parametrize("name", [name for name in NAMES if made(name).domain != "spectrogram"])
def test_silence_stays_silent(name: str) -> None:
    transform = made(name)
    batch = silent(suited(transform))
    assert not transform(batch, generator()).signal.any()


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_drawn_on_the_cpu_one_per_example(name: str) -> None:
    transform = made(name)
    batch = suited(transform)
    parameters = transform.draw(batch, generator())
    assert all(value.device.type == "cpu" and len(value) == len(batch) for value in parameters.values())
    assert (len(parameters) == 0) == (name in FIXED)


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_alone_decides(name: str) -> None:
    transform = made(name)
    batch = suited(transform)
    torch.manual_seed(1)
    first = transform(batch, generator(7))
    torch.manual_seed(2)
    again = transform(batch, generator(7))
    other = transform(batch, generator(8))
    assert torch.equal(first.signal, again.signal)
    assert torch.equal(first.targets.target, again.targets.target)
    assert torch.equal(first.signal, other.signal) == (name in FIXED)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_a_batch_equals_the_row_alone(name: str) -> None:
    transform = made(name)
    batch = suited(transform)
    parameters = transform.draw(batch, generator())
    whole = transform.apply(batch, parameters)
    for row in range(len(batch)):
        index = torch.tensor([row])
        alone = transform.apply(batch.rows(index), parameter_rows(parameters, index))
        assert torch.allclose(alone.signal[0], whole.signal[row], atol=TOLERANCE.get(name, 1e-5)), row
        assert torch.equal(alone.targets.target[0], whole.targets.target[row])
        assert torch.equal(alone.targets.mask[0], whole.targets.mask[row])


@pytest.mark.parametrize("name", [name for name in NAMES if made(name).domain != "any"])
def test_another_kind_of_signal_is_refused_by_name(name: str) -> None:
    transform = made(name)
    batch = suited(transform)
    wrong = batch.with_signal(torch.zeros(8, 9) if batch.signal.ndim == 3 else torch.zeros(8, 9, 4))
    with pytest.raises(
        ValueError, match=rf"{type(transform).__name__}: expected a {transform.domain} .* got shape \(8, 9"
    ):
        transform(wrong, generator())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gain", {"min_gain_db": 3.0, "max_gain_db": 0.0}, "gain_db: expected -inf <= min <= max <= inf, got 3 and 0"),
        ("time_mask", {"max_share": 1.5}, "share: expected 0 <= min <= max <= 1, got 0 and 1.5"),
        ("time_stretch", {"min_rate": 0.0}, "rate: expected 0.1 <= min <= max <= 10, got 0 and 1.25"),
        ("peaking", {"min_q": 0.0}, "q: expected 0.05 <= min <= max <= inf, got 0 and 5"),
        ("sum_with_n", {"num": -1}, "num: expected 0 to 16 clips, got -1"),
        ("mixup", {"alpha": 0.0}, "alpha: expected above 0, got 0.0"),
        ("concat_n", {"num": 0}, "num: expected 1 <= min <= max <= inf, got 0 and 0"),
        ("concat_same_instrument", {"num": 0}, "expected num >= 1 and trim_db > 0, got 0 and 40.0"),
        ("exponential_n", {"scale": 0.0}, "scale > 0, got 5 and 0.0"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(name, **settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_results_of_the_cpu() -> None:
    for name in NAMES:
        on_gpu_as_on_cpu(made(name))


def on_gpu_as_on_cpu(transform: Transform) -> None:
    batch = suited(transform)
    parameters = transform.draw(batch, generator())
    expected = transform.apply(batch, parameters)
    device = torch.device("cuda")
    targets = replace(batch.targets, target=batch.targets.target.to(device), mask=batch.targets.mask.to(device))
    moved = replace(batch, signal=batch.signal.to(device), targets=targets)
    if isinstance(transform, BackgroundNoise):
        transform = replace(transform, bank=transform.bank.to(device))
    result = transform.apply(moved, on_device(parameters, moved))
    assert torch.allclose(result.signal.cpu(), expected.signal, atol=1e-3), transform
    assert torch.equal(result.targets.target.cpu(), expected.targets.target), transform
