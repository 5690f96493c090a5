from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

from tutti.datasets.errors import UsageError
from tutti.train.models.multilabel_svm import Config, build

NUM_FEATURES = 28


def material(num_clips: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of different sizes, and two classes that depend on them, with noise."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((num_clips, NUM_FEATURES)) * np.geomspace(0.2, 5, NUM_FEATURES)
    noisy = features / features.std(axis=0) + 0.3 * rng.standard_normal(features.shape)
    presence = np.stack([noisy[:, 3] > 0, np.abs(noisy[:, 20]) > 0.7], axis=1)
    return features.astype(np.float32), presence.astype(np.int8)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("scaled", [False, True])
def test_decision_values_are_scikit_learns(kernel: str, scaled: bool) -> None:
    features, presence = material()
    others, _ = material(seed=1)
    config = Config(kernel=kernel, scaled=scaled, regularization=2.0)  # type: ignore[arg-type]
    model = build(config, NUM_FEATURES, 2)
    model.fit(features, presence)  # type: ignore[operator]
    decisions = model(torch.from_numpy(others))
    features, others = features.astype(np.float64), others.astype(np.float64)
    scaler = MinMaxScaler().fit(features)
    for index in range(2):
        machine = SVC(C=2.0, kernel=kernel).fit(scaler.transform(features) if scaled else features, presence[:, index])
        expected = machine.decision_function(scaler.transform(others) if scaled else others)
        assert np.abs(expected).max() > 0.5
        assert np.allclose(decisions[:, index].numpy(), expected, atol=1e-5)


def test_clips_that_do_not_know_a_class_do_not_take_part_in_it() -> None:
    features, presence = material()
    partial = presence.copy()
    partial[40:, 0] = -1
    model, half = build(Config(), NUM_FEATURES, 2), build(Config(scaled=False), NUM_FEATURES, 2)
    model.fit(features, partial)  # type: ignore[operator]
    scaled = MinMaxScaler().fit(features).transform(features)
    half.fit(scaled[:40], presence[:40])  # type: ignore[operator]
    expected = half(torch.from_numpy(scaled))[:, 0]
    assert torch.allclose(model(torch.from_numpy(features))[:, 0], expected, atol=1e-2)


def test_a_class_of_one_side_answers_it_and_one_that_nobody_knows_answers_zero() -> None:
    features, presence = material()
    labels = np.stack([np.ones(80), np.zeros(80), np.full(80, -1), presence[:, 0]], axis=1).astype(np.int8)
    model = build(Config(), NUM_FEATURES, 4)
    model.fit(features, labels)  # type: ignore[operator]
    decisions = model(torch.from_numpy(features))
    assert decisions[:, :3].unique(dim=0).tolist() == [[1.0, -1.0, 0.0]]
    assert ((decisions[:, 3] > 0).numpy() == presence[:, 0]).mean() > 0.95


def test_a_feature_that_never_moves_is_left_out() -> None:
    features, presence = material()
    features[:, 5] = 7.0
    model = build(Config(), NUM_FEATURES, 2)
    model.fit(features, presence)  # type: ignore[operator]
    assert model(torch.from_numpy(features)).isfinite().all()


def test_a_feature_that_is_not_finite_is_named() -> None:
    features, presence = material()
    features[3, 4] = np.nan
    with pytest.raises(UsageError, match="clip 3: feature 4 is not finite"):
        build(Config(), NUM_FEATURES, 2).fit(features, presence)  # type: ignore[operator]


def test_support_vectors_are_as_many_as_the_file_says(tmp_path: Path) -> None:
    features, presence = material()
    model, other = build(Config(), NUM_FEATURES, 2), build(Config(), NUM_FEATURES, 2)
    model.fit(features, presence)  # type: ignore[operator]
    other.fit(features[:10], presence[:10])  # type: ignore[operator]
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(torch.from_numpy(features)), model(torch.from_numpy(features)))
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(Config(), NUM_FEATURES, 3).load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(Config(), NUM_FEATURES + 1, 2).load_state_dict(model.state_dict())


def test_before_the_fit_it_knows_nothing() -> None:
    model = build(Config(), NUM_FEATURES, 2)
    assert model(torch.ones(3, NUM_FEATURES)).tolist() == [[0.0, 0.0]] * 3
    assert not model.fitted


def test_a_solver_that_does_not_converge_stops_and_says_so() -> None:
    features, presence = material()
    model = build(Config(kernel="linear", scaled=False, regularization=1e4, max_iterations=10), NUM_FEATURES, 2)
    with pytest.warns(ConvergenceWarning, match="Solver terminated early"):
        model.fit(features, presence)  # type: ignore[operator]
