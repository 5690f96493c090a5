"""Judgement of declared sizes: which are plausible, and when bytes are lacking.

A writer that cannot seek back leaves 0 or the highest size there is, often less a header; others count their own
header in. Neither says that a file is truncated.
"""

FEW_BYTES = 64  # a header too many: that of a plain WAV has 44, less than 1 ms of sound
_NEAR = 1 << 16  # SoX leaves 0x7FFFF000, FFmpeg 0xFFFFFFFF, others that less their header
_NO_FILE = 1 << 48  # bytes
_LIMITS = (1 << 31, 1 << 32, 1 << 63, 1 << 64)

MOST_CHUNKS = 4_096  # of a header; a file with more is hostile
UNCOMPRESSED_BITS = 64  # at most, per sample


def is_placeholder(size: int) -> bool:
    """Whether a size is what writers leave that do not know it: 0, or the top of 31, 32, 63, 64 bits; or no file's."""
    return size <= 0 or size >= _NO_FILE or any(limit - _NEAR <= size <= limit for limit in _LIMITS)


def is_name(kind: bytes) -> bool:
    """Whether four bytes can be the name of a chunk: printable ASCII."""
    return len(kind) == 4 and all(32 <= byte < 127 for byte in kind)


def is_lacking(claimed: int, there: int, frame: int, *more: int) -> bool:
    """Whether bytes are lacking of a size that is no placeholder: at least a frame and more than a header.

    Args:
        claimed: bytes.
        there: bytes up to the end of the file.
        frame: bytes of a sample of all channels, 0 where unknown.
        more: sizes that count more than the samples, such as that of the file.
    """
    return claimed - there >= max(FEW_BYTES, frame) and claimed not in more


def next_chunk(data: bytes, end: int, start: int) -> int:
    """Find the chunk after one that ends at `end` of a file that begins at `start`.

    Chunks are padded to even sizes, but not by all writers.
    """
    odd = (end - start) % 2
    if odd and not is_name(data[end + 1 : end + 5]) and is_name(data[end : end + 4]):
        return end
    return end + odd
