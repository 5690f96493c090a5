"""Rows that travel between stages, beside those of datasets/record.py."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from datasets.record import ABSENT, PRESENT, UNKNOWN


@dataclass(frozen=True, slots=True)
class ClipSummary:
    """The facts of a clip that the global steps need: one small row."""

    id: str
    source: str
    partition: str
    group: str
    pcm_sha256: str
    presence: Sequence[int]  # (num_instruments,): PRESENT, ABSENT or UNKNOWN; kept as int8, as NSynth has 1,006
    blob: str = ""  # of the stored audio
    num_samples: int = 0
    generic_guitar: int = UNKNOWN  # a guitar whose kind is not named
    embedding: str | None = None  # blobs, set by embed
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        """Pack the labels: a byte each, where a tuple takes eight."""
        if not isinstance(self.presence, array):
            object.__setattr__(self, "presence", array("b", self.presence))


def conflict(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two label vectors cannot both be right.

    They conflict where one says present and the other absent, and where neither set of present
    instruments contains the other (two "predominant" instruments of one recording).
    """
    if any({x, y} == {PRESENT, ABSENT} for x, y in zip(a, b, strict=True)):
        return True
    present_a = {index for index, value in enumerate(a) if value == PRESENT}
    present_b = {index for index, value in enumerate(b) if value == PRESENT}
    return not (present_a <= present_b or present_b <= present_a)
