"""Blocks of decoded samples, and the limits of what is decoded at all.

A block is sound, or silence in place of what the container does not hold (`GAP`) or what is lost (`DAMAGE`).
Such a silence is a view of one zero: hours of it take no memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.decode_error import DecodeError

Waveform = NDArray[np.float32]  # (num_channels, num_samples)

# Above any real recording; a header that claims more is damaged or hostile.
MAX_CHANNELS = 32
SAMPLE_RATES_HZ = (4_000, 768_000)
MAX_DURATION_S = 24 * 3600  # YouTube takes no video longer than 12 h
# 16 MiB of float32, 43 s of stereo at 48 kHz: most files are one block, which is then never copied.
BLOCK_SAMPLES = 1 << 22

SOUND, GAP, DAMAGE = "sound", "gap", "damage"


class RefusedError(DecodeError):
    """The bytes pass a limit of ours: another decoder is not asked."""


@dataclass(frozen=True)
class Block:
    """Samples that follow those of the block before."""

    waveform: Waveform
    sample_rate: int
    codec: str
    decoder: str
    kind: str = SOUND

    @property
    def num_samples(self) -> int:
        """Samples per channel."""
        return int(self.waveform.shape[1])

    def cut(self, first: int, last: int, kind: str | None = None) -> "Block":
        """Take the samples [first, last) of it."""
        return replace(self, waveform=self.waveform[:, first:last], kind=kind or self.kind)

    def silence(self, num_samples: int, kind: str) -> "Block":
        """Make a silence of as many channels."""
        nothing = np.broadcast_to(np.float32(0), (self.waveform.shape[0], num_samples))
        return replace(self, waveform=nothing, kind=kind)


def check_block(block: Block, position: int, name: str) -> None:
    """Refuse a block that passes a limit.

    Args:
        block: the block.
        position: of its first sample.
        name: what errors call the file.

    Raises:
        RefusedError: it does.
    """
    low, high = SAMPLE_RATES_HZ
    if not low <= block.sample_rate <= high:
        raise RefusedError(f"{name}: sample rate {block.sample_rate} Hz is outside {low} to {high}")
    if position + block.num_samples > MAX_DURATION_S * block.sample_rate:
        raise RefusedError(f"{name}: is longer than {MAX_DURATION_S // 3600} h")
    if block.kind == SOUND and not np.isfinite(block.waveform).all():
        raise RefusedError(f"{name}: holds samples that are not finite")


def skipped(blocks: Iterator[Block], num_samples: int) -> Iterator[Block]:
    """Drop the first samples of a stream of blocks."""
    for block in blocks:
        left_out = min(num_samples, block.num_samples)
        num_samples -= left_out
        if left_out < block.num_samples:
            yield block.cut(left_out, block.num_samples) if left_out else block


def marked(
    blocks: Iterator[Block], losses: tuple[tuple[int, int], ...], *, inserted: bool, only_silence: bool = False
) -> Iterator[Block]:
    """Distinguish stretches of samples that are lost.

    Args:
        blocks: what a decoder gives.
        losses: stretches [first, last), disjoint, in order.
        only_silence: of these stretches only what has no sound is lost.
        inserted: the decoder joins what is left; silence is put between. Else it leaves the place of what is lost.
    """
    waiting = list(reversed(losses))
    position = 0
    for block in blocks:
        taken = 0
        while waiting and waiting[-1][0] < position + block.num_samples - taken:
            first, last = waiting.pop()
            first = max(first, position)
            if last <= first:
                continue
            if first > position:
                yield block.cut(taken, taken + first - position)
                taken, position = taken + first - position, first
            if inserted:
                yield block.silence(last - first, DAMAGE)
                position = last
                continue
            there = min(last - first, block.num_samples - taken)
            yield block.cut(taken, taken + there, SOUND if only_silence and block.kind == SOUND else DAMAGE)
            taken, position = taken + there, first + there
            if position < last:
                waiting.append((position, last))
        if taken < block.num_samples:
            yield block.cut(taken, block.num_samples) if taken else block
            position += block.num_samples - taken
