"""Settings of mixtures; after the musical-mixtures paper (section 2.3), which leaves some of them open."""

from dataclasses import dataclass, fields
from typing import Literal

from tutti.datasets.record import Seconds


@dataclass(frozen=True)
class MixingConfig:
    """Choice of stems, their effects, and how many mixtures there are."""

    p_musical: float = 0.4  # share of mixtures whose stems are of one song, at one time; the paper's best
    p_single: float = 0.25  # share of mixtures of one stem; open in the paper
    max_sources: int = 6  # all others have 2 to so many stems, each number as often; open in the paper
    mixes_per_epoch: int = 8192
    num_validation: int = 1024  # musical mixtures of the validation split, always the same ones
    num_test: int = 1024
    min_sounding_s: Seconds = 0.1  # of a chunk, for a stem to be heard in it; less, but some: unknown
    max_redraws: int = 32  # of a chunk in which nothing sounds; then it is kept
    # Before they are added up, stems stand to each other as upstream has them, or all at one loudness.
    levels: Literal["upstream", "equal"] = "upstream"
    max_peak: float = 1.0  # of full scale: one gain for the whole mixture keeps it below
    # How often each effect is applied to a stem, in an order and with parameters of its own; open in the paper.
    p_gain: float = 0.5
    p_high_shelf: float = 0.5
    p_low_shelf: float = 0.5
    p_peaking: float = 0.5
    p_pitch_shift: float = 0.5  # never in a musical mixture
    p_time_stretch: float = 0.5  # never in a musical mixture

    def __post_init__(self) -> None:
        """Refuse shares beyond [0, 1], and numbers of nothing."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.startswith("p_") and not 0 <= value <= 1:
                raise ValueError(f"{item.name} must lie in [0, 1], got {value}")
        for name in ("max_sources", "mixes_per_epoch", "num_validation", "num_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_redraws < 0 or self.min_sounding_s < 0:
            raise ValueError("max_redraws and min_sounding_s must not be negative")
        if not 0 < self.max_peak <= 1:
            raise ValueError(f"max_peak must lie in (0, 1], got {self.max_peak}")
