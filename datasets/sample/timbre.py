"""The timbre of one player's instrument: fixed within a song, different from song to song."""

from dataclasses import dataclass

import numpy as np

from tutti.datasets.sample.dsp import Signal


@dataclass(frozen=True)
class Timbre:
    """Deviations from an instrument's average; the defaults are the average."""

    variant: str = ""  # the kind, where there are several: "pipe", "hammond", "female", ...
    brightness: float = 0.0  # about -1 (dull) to 1 (bright)
    body: float = 1.0  # factor on the frequencies of resonances and formants
    detune_cents: float = 0.0
    vibrato: float = 1.0  # factor on the depth
    vibrato_hz: float = 5.5
    noise: float = 1.0  # factor on breath, bow, pick and hammer noise
    attack: float = 1.0  # factor on the time of the attack
    position: float = 0.5  # 0 to 1 within the usual places to pluck, bow or strike
    phase_seed: int = 0

    def phases(self, count: int) -> Signal:
        """Draw the phases of the partials (count,), in radians."""
        return np.random.default_rng(self.phase_seed).uniform(0, 2 * np.pi, count)


def draw_timbre(rng: np.random.Generator, variants: tuple[str, ...]) -> Timbre:
    """Draw a random player."""
    return Timbre(
        variant=variants[int(rng.integers(len(variants)))],
        brightness=float(np.clip(0.25 * rng.standard_normal(), -0.8, 0.8)),
        body=float(np.exp(0.05 * rng.standard_normal())),
        detune_cents=float(rng.uniform(-14, 14)),
        vibrato=float(rng.uniform(0.4, 1.5)),
        vibrato_hz=float(rng.uniform(4.6, 6.4)),
        noise=float(np.exp(0.35 * rng.standard_normal())),
        attack=float(np.exp(0.35 * rng.standard_normal())),
        position=float(rng.uniform(0, 1)),
        phase_seed=int(rng.integers(2**31)),
    )
