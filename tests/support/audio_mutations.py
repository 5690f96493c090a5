"""Seeded mutations of audio files: flips, odd sizes, cuts, repeats, most of them in the header; files within files."""

import random
from collections.abc import Sequence

NASTY = (bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x01", bytes(8), b"\xff" * 8,
         b"OggS", b"fLaC\0\0\0\x22", b"moof", b"Xing", b"\xff\xfb\x90\x00", b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
         b"RIFF", b"data", b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67\x01" + b"\xff" * 7, b"ftyp", b"TAG")  # fmt: skip


def mutated(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """One to eight changes of a file; one of the `others` may come before it, behind it or into it."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(min(len(content), 400)) if rng.random() < 0.6 else rng.randrange(len(content))
        length = rng.randrange(1, 2_000)
        match rng.choice(("flip", "flip", "value", "byte", "drop", "repeat", "cut", "zeros", "other")):
            case "flip":
                content[at] ^= 1 << rng.randrange(8)
            case "value":
                content[at : at + 8] = rng.choice(NASTY)
            case "byte":
                content[at] = rng.choice((0, 1, 127, 128, 255))
            case "drop":
                del content[at : at + length]
            case "repeat":
                content[at:at] = content[rng.randrange(len(content)) :][:length]
            case "cut" if rng.random() < 0.3:
                del content[max(20, rng.randrange(len(content))) :]
            case "zeros":
                content[at : at + length] = bytes(length)
            case "other" if others:
                other = rng.choice(others)
                place = rng.choice((0, at, len(content)))
                content[place:place] = other[: rng.choice((len(other), length))]
        if len(content) < 20:
            break
    return bytes(content) or b"\0"
