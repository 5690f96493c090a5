"""MultilabelSVM (Lumen 2023): one support vector machine per class on 28 classical features.

    model = build(Config(), 28, 11)
    model.fit(features_ND, presence_NC)      scikit-learn, once; no gradients
    logits_BC = model(features_BD)           the machines' decision values, in torch

What was fitted is kept as tensors, so that a run saves it as it saves any model, without pickle.

Shapes: N clips to learn from, B clips, D features, C classes, S support vectors of all classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import SVC
from torch import Tensor, nn

from tutti.datasets.errors import UsageError
from tutti.datasets.record import PRESENT, UNKNOWN

INPUT = "features"

Kernel = Literal["linear", "rbf"]

_OF_ONE_SIDE = 1.0  # decision value of a class of which only one side is known: its margin


@dataclass(frozen=True)
class Config:
    """Kernel and scaling; the paper's best of four, F1 .19."""

    kernel: Kernel = "rbf"
    regularization: float = 250.0  # C; the paper: rbf 250 scaled, 10,000 raw; linear 1 scaled, 1,000 raw
    scaled: bool = True  # every feature to [0, 1] of the training clips
    balanced: bool = False  # weight of a side = 1 / its share; the paper: off
    max_iterations: int = 1_000_000  # of the solver, which then warns; raw features may never converge

    def __post_init__(self) -> None:
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {self.max_iterations}")
        if not self.regularization > 0 or self.kernel not in get_args(Kernel):
            raise ValueError(f"needs regularization > 0 and kernel one of {', '.join(get_args(Kernel))}, got {self}")


TINY = Config()


class MultilabelSvm(nn.Module):
    """Features (B, D) to decision values (B, C): above 0 is present, 1 is the margin."""

    low: Tensor
    scale: Tensor
    vectors: Tensor
    weights: Tensor
    intercepts: Tensor
    gammas: Tensor
    fitted: Tensor

    def __init__(self, config: Config, num_features: int, num_classes: int) -> None:
        super().__init__()
        self._config = config
        # In double: sums of C times kernel values, of both signs, cancel.
        self.register_buffer("low", torch.zeros(num_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(num_features, dtype=torch.float64))
        self.register_buffer("vectors", torch.zeros(0, num_features, dtype=torch.float64))
        # A column per vector, 0 in other classes.
        self.register_buffer("weights", torch.zeros(num_classes, 0, dtype=torch.float64))
        self.register_buffer("intercepts", torch.zeros(num_classes, dtype=torch.float64))
        # Of the rbf kernel; unused by the linear one.
        self.register_buffer("gammas", torch.ones(num_classes, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, features_ND: NDArray[np.float32], presence_NC: NDArray[np.int8]) -> None:
        """Fit one machine per class on the clips that know it.

        A class of which only one side is known always answers that side; one without known labels answers 0.

        Raises:
            UsageError: a feature is not finite.
        """
        features = np.asarray(features_ND, np.float64)
        if not np.isfinite(features).all():
            clip, feature = np.argwhere(~np.isfinite(features))[0]
            raise UsageError(f"clip {clip}: feature {feature} is not finite; leave the clip out or compute it again")
        if self._config.scaled:
            low, high = features.min(axis=0), features.max(axis=0)
            span = np.where(high > low, high - low, 1)  # one that never moves is left at 0
            self.low, self.scale = self._tensor(low), self._tensor(1 / span)
        scaled_ND = self._scaled(self._tensor(features)).cpu().numpy()
        vectors, weights = [], []
        for index, presence_N in enumerate(np.asarray(presence_NC).T):
            known = presence_N != UNKNOWN
            present = presence_N[known] == PRESENT
            if known.any() and present.any() and not present.all():
                machine = self._machine().fit(scaled_ND[known], present)
                vectors.append(machine.support_vectors_)
                weights.append((index, machine.dual_coef_[0]))
                self.intercepts[index], self.gammas[index] = float(machine.intercept_[0]), float(machine._gamma)
            else:
                side = 0.0 if not known.any() else _OF_ONE_SIDE if present.all() else -_OF_ONE_SIDE
                self.intercepts[index] = side
        self._keep(vectors, weights)

    def _machine(self) -> Any:
        config = self._config
        return SVC(
            C=config.regularization,
            kernel=config.kernel,
            class_weight="balanced" if config.balanced else None,
            cache_size=500,  # MB
            max_iter=config.max_iterations,
        )

    def _keep(self, vectors: list[NDArray[np.float64]], weights: list[tuple[int, NDArray[np.float64]]]) -> None:
        count = sum(len(part) for part in vectors)
        table = np.zeros((len(self.intercepts), count))
        start = 0
        for index, values in weights:
            table[index, start : start + len(values)] = values
            start += len(values)
        stacked = np.concatenate(vectors) if vectors else np.zeros((0, len(self.low)))
        self.vectors, self.weights = self._tensor(stacked), self._tensor(table)
        self.fitted = torch.tensor(True, device=self.low.device)

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float64)).to(self.low.device)

    def _scaled(self, features_BD: Tensor) -> Tensor:
        return (features_BD - self.low) * self.scale

    def forward(self, features_BD: Tensor) -> Tensor:
        """Compute decision values (B, C); 0 before `fit`."""
        scaled_BD, vectors_SD = self._scaled(features_BD.double()), self.vectors
        if self._config.kernel == "linear":
            kernel_BS = scaled_BD @ vectors_SD.t()
        else:
            owner_S = self.weights.abs().argmax(dim=0) if self.weights.shape[1] else self.weights.new_zeros(0).long()
            distance_BS = torch.cdist(scaled_BD, vectors_SD, compute_mode="donot_use_mm_for_euclid_dist").square()
            kernel_BS = torch.exp(-self.gammas[owner_S] * distance_BS)
        return (kernel_BS @ self.weights.t() + self.intercepts).float()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        # How many support vectors there are is a result of the fit, so the file decides.
        for name in ("vectors", "weights"):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.dim() == 2:
                setattr(self, name, getattr(self, name).new_zeros(_grown(getattr(self, name), name, saved)))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _grown(own: Tensor, name: str, saved: Tensor) -> tuple[int, int]:
    """Adjust our tensor's size to the file's number of support vectors; other mismatches stay, and are refused."""
    return (len(saved), own.shape[1]) if name == "vectors" else (len(own), saved.shape[1])


def build(config: Config, num_features: int, num_classes: int) -> nn.Module:
    """Make machines that answer 0 until `fit`."""
    return MultilabelSvm(config, num_features, num_classes)
