"""One echo."""

from dataclasses import dataclass

from torch import Generator
from torch.nn import functional

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, uniform
from tutti.augment.levels import ratio_from_db, row_slices
from tutti.augment.transform import Parameters, Transform
from tutti.datasets.record import Decibels, Seconds

_HALF_DB = -6.020599913279624  # amplitude 0.5


@dataclass(frozen=True)
class Delay(Transform):
    """Add the signal once more, later and softer.

    The range is torchaudio-augmentations', which the NSynth pre-training paper uses; there the sum is
    halved as well, which `Renormalize` does better.
    """

    min_delay_s: Seconds = 0.2
    max_delay_s: Seconds = 0.5
    min_echo_db: Decibels = _HALF_DB  # level of the echo
    max_echo_db: Decibels = _HALF_DB

    def __post_init__(self) -> None:
        check_range("delay_s", self.min_delay_s, self.max_delay_s, 0)
        check_range("echo_db", self.min_echo_db, self.max_echo_db)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw delay_s and echo_db, both (B,)."""
        return {
            "delay_s": uniform(len(batch), self.min_delay_s, self.max_delay_s, generator),
            "echo_db": uniform(len(batch), self.min_echo_db, self.max_echo_db, generator),
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Add echoes to the waveforms; what passes the end is lost."""
        length = batch.signal.shape[1]
        latest = round(self.max_delay_s * batch.sample_rate)
        delay_B = (parameters["delay_s"] * batch.sample_rate).round().long().clamp(max=latest)
        echo_BT = row_slices(functional.pad(batch.signal, (latest, 0)), latest - delay_B, length)
        return batch.with_signal(echo_BT.mul_(ratio_from_db(parameters["echo_db"])).add_(batch.signal))
