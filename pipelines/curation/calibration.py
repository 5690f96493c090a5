"""Calibration: from logits to the probability that a given label is right.

    calibration = calibrate(logits, labels, weights)
    shares = posterior(logits, labels, calibration)       (N, K); shares[row, label] is the label's

Two things stand between a classifier's logits and that probability. The classifier is too sure or not sure enough, so
its logits are divided by a temperature (Guo et al. 2017). And some labels are wrong, which class-conditional noise
describes (Northcutt et al. 2021): a label is right but for a share of them, and a wrong one is any other class alike.
Both numbers are fitted to out-of-fold logits and the labels as given, by maximum a posteriori likelihood of

    P(label | x) = (1 - noise) P(class = label | x) + noise / (K - 1) (1 - P(class = label | x)).

A classifier that hears little has flat probabilities, which explain its errors without any noise; so the weaker an
embedder, the less is doubted, and no cutoff needs to be set by hand. N rows, K classes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tutti.pipelines.curation.crossfit import Floats, softmax

# Steps of 5 %: finer ones change no probability by more than .02. Fixed steps, so that last bits decide nothing.
TEMPERATURES = np.geomspace(0.2, 4.0, 61)
# Where labels are many, the likelihood decides. Where they are few, "wrong labels" and "unsure classifier" explain
# the same data, two classes above all: then the temperature is near that of regressions without any noise planted
# (.35 to .6 on the built-in sample and on Gaussian clouds), and noise near 5 %, as if ten songs had said so.
USUAL_TEMPERATURE, TEMPERATURE_SPREAD = 0.45, 0.7  # the latter of its logarithm
WRONG_BEFORE, RIGHT_BEFORE = 0.5, 9.5  # songs
BISECTIONS = 30  # of [0, 1]: to 1e-9


@dataclass(frozen=True)
class Calibration:
    """Two numbers that turn logits into probabilities."""

    temperature: float  # divides the logits
    noise: float  # share of the labels that are wrong
    evidence: float = 0.0  # for any wrong label: log likelihood gained over a temperature alone


UNCHANGED = Calibration(1.0, 0.0)


def calibrate(logits: Floats, labels: NDArray[np.int64], weights: Floats) -> Calibration:
    """Fit temperature and share of wrong labels.

    Args:
        logits: out of fold (N, K).
        labels: as given (N,).
        weights: of each row (N,); the rows of a song sum to 1, for they are one observation.
    """
    fits = [_at(logits, labels, weights, temperature) for temperature in TEMPERATURES]
    best = max(range(len(fits)), key=lambda index: fits[index].posterior)
    evidence = fits[best].likelihood - max(fitted.without_noise for fitted in fits)
    return Calibration(float(TEMPERATURES[best]), fits[best].noise, float(evidence))


class _Fit(NamedTuple):
    noise: float  # the best share of wrong labels at one temperature
    posterior: float  # its logarithm
    likelihood: float  # likewise, without what was thought of noise before
    without_noise: float  # likewise, where no label is wrong


def _at(logits: Floats, labels: NDArray[np.int64], weights: Floats, temperature: float) -> _Fit:
    """Compute the best share of wrong labels at one temperature, and how likely it is."""
    right = _given(softmax(logits / temperature), labels)
    wrong = np.clip((1 - right) / (logits.shape[1] - 1), 1e-12, 1)
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):  # of the derivative by the noise, which falls throughout
        noise = (low + high) / 2
        slope = (weights * (wrong - right) / ((1 - noise) * right + noise * wrong)).sum()
        low, high = (noise, high) if slope + WRONG_BEFORE / noise > RIGHT_BEFORE / (1 - noise) else (low, noise)
    noise = (low + high) / 2
    unusual = (np.log(temperature / USUAL_TEMPERATURE) / TEMPERATURE_SPREAD) ** 2 / 2
    likelihood = float((weights * np.log((1 - noise) * right + noise * wrong)).sum() - unusual)
    without_noise = float((weights * np.log(right)).sum() - unusual)
    prior = float(WRONG_BEFORE * np.log(noise) + RIGHT_BEFORE * np.log(1 - noise))
    return _Fit(noise, likelihood + prior, likelihood, without_noise)


def posterior(logits: Floats, labels: NDArray[np.int64], calibration: Calibration) -> Floats:
    """Compute what the class of each row is (N, K), given its logits and the label that it bears."""
    shares = softmax(logits / calibration.temperature)
    num_classes = logits.shape[1]
    likelihood = np.full(shares.shape, calibration.noise / (num_classes - 1))
    likelihood[np.arange(len(labels)), labels] = 1 - calibration.noise
    joint = shares * likelihood
    result: Floats = joint / joint.sum(axis=1, keepdims=True)
    return result


def _given(shares: Floats, labels: NDArray[np.int64]) -> Floats:
    return np.clip(shares[np.arange(len(labels)), labels], 1e-12, 1)
