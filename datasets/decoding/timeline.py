"""The clock of a container: where the frames of a decoder belong, by their timestamps.

Timestamps are rounded (Matroska: to milliseconds) and tremble, so samples follow each other without a break until the
clock is a frame ahead of them or behind. Then the clock is right: silence fills a gap, of an overlap the first is kept.
Not believed is a single timestamp that the next one contradicts. Where time begins anew, another stream is chained
behind: its clock goes on from the samples.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from tutti.datasets.decoding.block import DAMAGE, GAP, MAX_DURATION_S, SOUND, Waveform

LEAST_BREAK_S = Fraction(1, 50)  # a gap or an overlap lasts as long as a frame, and not less than this
ROUNDED_S = Fraction(1, 500)  # by which two rounded timestamps may be too near: two milliseconds
RESTART_S = 1  # time that goes back by more begins anew


@dataclass(frozen=True, slots=True)
class Frame:
    """Decoded samples with the time that their container gives them."""

    waveform: Waveform
    sample_rate: int
    pts: int | None  # in ticks; None: it gives none
    tick_s: Fraction
    lost_s: Fraction | None = None  # of packets before it that could not be decoded; None: there are none
    kind: str = SOUND

    @property
    def time_s(self) -> Fraction | None:
        """The time of the first sample, exactly."""
        return None if self.pts is None else self.pts * self.tick_s


@dataclass(frozen=True)
class Silence:
    """Samples of silence that stand before a frame."""

    num_samples: int
    kind: str


def placed(frames: Iterable[Frame], begin_s: Fraction | None) -> Iterator[Frame | Silence]:
    """Set frames on their clock.

    Args:
        frames: in the order of decoding.
        begin_s: time of the container's first sound or picture; None: that of the first frame.

    Yields:
        The frames, cut where they overlap, and the silences between them; position 0 is `begin_s`.
    """
    clock = _Clock(begin_s)
    waiting: Frame | None = None
    for frame in frames:
        if waiting is not None:
            yield from clock.place(waiting, frame)
        waiting = frame
    if waiting is not None:
        yield from clock.place(waiting, None)


class _Clock:
    def __init__(self, begin_s: Fraction | None) -> None:
        self.zero_s = begin_s  # the time of sample 0
        self.position = 0  # of the next sample
        self.begun = False
        self._tick_s: Fraction | None = None  # of what `_about` was computed
        self._zero_s: Fraction | None = None
        self._about = 0.0, 0.0

    def place(self, frame: Frame, following: Frame | None) -> Iterator[Frame | Silence]:
        if self._follows(frame):
            yield frame
            self.position += frame.waveform.shape[1]
            return
        ahead = self._ahead(frame, following)
        if ahead > 0:
            yield Silence(ahead, GAP if frame.lost_s is None else DAMAGE)
        else:
            kind = frame.kind if frame.lost_s is None else DAMAGE  # it was decoded without what came before
            frame = replace(frame, waveform=frame.waveform[:, -ahead:], kind=kind)
        if frame.waveform.shape[1]:
            yield frame
        self.position += max(ahead, 0) + frame.waveform.shape[1]

    def _follows(self, frame: Frame) -> bool:
        """Whether a frame is well within the tolerance, by floats; all others are computed exactly."""
        if not self.begun or frame.pts is None or frame.lost_s is not None:
            return False
        if frame.tick_s is not self._tick_s or self.zero_s is not self._zero_s:
            self._tick_s, self._zero_s = frame.tick_s, self.zero_s
            self._about = float(frame.tick_s), float(self.zero_s or 0)
        tick_s, zero_s = self._about
        rate, length = frame.sample_rate, frame.waveform.shape[1]
        ahead = (frame.pts * tick_s - zero_s) * rate - self.position
        return bool(length > 0 and abs(ahead) < max(length, rate // 50) - rate // 500 - 4)

    def _ahead(self, frame: Frame, following: Frame | None) -> int:
        """Compute by how many samples the clock is ahead of a frame; 0: within the tolerance."""
        rate, length = frame.sample_rate, frame.waveform.shape[1]
        if frame.time_s is None:
            return round((frame.lost_s or 0) * rate)
        if self.zero_s is None:
            self.zero_s = frame.time_s if frame.lost_s is None else frame.time_s - frame.lost_s
        ahead = self._samples(frame.time_s, rate) - self.position
        possible = -RESTART_S * rate <= ahead <= MAX_DURATION_S * rate
        if not self.begun:
            self.begun = True
            return max(ahead, 0) if possible else 0
        rounded = round(ROUNDED_S * rate)
        tolerance = max(length, round(LEAST_BREAK_S * rate)) - rounded
        if abs(ahead) < (tolerance if frame.lost_s is None else rounded):
            return 0
        if following is None and frame.lost_s is None:
            return 0  # nothing confirms it
        if following is not None and following.time_s is not None and following.lost_s is None:
            next_ahead = self._samples(following.time_s, rate) - (self.position + length)
            if abs(next_ahead) < min(tolerance, abs(ahead)):
                return 0
        if not possible:
            self.zero_s = frame.time_s - Fraction(self.position, rate)
            return 0
        return ahead

    def _samples(self, time_s: Fraction, rate: int) -> int:
        return round((time_s - (self.zero_s or 0)) * rate)
