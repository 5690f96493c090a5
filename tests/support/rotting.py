"""Seeded damage of files of a cache: bits, cuts, other files' content, and things that are no files at all."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

Mutation = Callable[[bytes, random.Random], bytes]

DEEP = b"[" * 50_000


def flipped(content: bytes, rng: random.Random) -> bytes:
    """One bit."""
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def other_digit(content: bytes, rng: random.Random) -> bytes:
    """One digit of a number or a digest."""
    places = [place for place, byte in enumerate(content) if byte in b"0123456789abcdef"]
    place = rng.choice(places)
    return content[:place] + rng.choice(b"0123456789abcdef").to_bytes() + content[place + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    """The beginning."""
    return content[: rng.randrange(len(content))]


def without(content: bytes, rng: random.Random) -> bytes:
    """Some bytes less."""
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randint(1, 40) :]


def twice(content: bytes, rng: random.Random) -> bytes:
    """A part repeated."""
    start = rng.randrange(len(content))
    return content[: start + rng.randint(1, 40)] + content[start:]


def noise(content: bytes, rng: random.Random) -> bytes:
    """As many other bytes."""
    return rng.randbytes(len(content))


def plausible(content: bytes, rng: random.Random) -> bytes:
    """JSON that is none of ours."""
    return rng.choice((b"{}", b"null", b"[]", b'""', b"0", b"NaN", b'{"audio":{}}', b'{"blob":"../../x"}', DEEP, b""))


MUTATIONS: tuple[Mutation, ...] = (flipped, other_digit, cut, without, twice, noise, plausible)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with one mutation that changed it."""
    while (changed := rng.choice(MUTATIONS)(content, rng)) == content:
        continue
    return changed


def to_folder(path: Path) -> None:
    """A folder with a file in it."""
    path.unlink()
    path.mkdir()
    (path / "x").touch()


def to_endless(path: Path) -> None:
    """A link to a device without an end."""
    path.unlink()
    path.symlink_to("/dev/zero")


def to_nowhere(path: Path) -> None:
    """A link to nothing."""
    path.unlink()
    path.symlink_to("nowhere")


def to_pipe(path: Path) -> None:
    """A pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def to_nothing(path: Path) -> None:
    """Nothing at all."""
    path.unlink()


def to_empty(path: Path) -> None:
    """No byte left."""
    path.write_bytes(b"")


def to_unreadable(path: Path) -> None:
    """A bit flipped, and nobody may read it (but for root)."""
    rot_one_bit(path)
    path.chmod(0)


def rot_one_bit(path: Path) -> None:
    """A bit flipped in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = (rot_one_bit, to_empty, to_folder, to_endless, to_nowhere, to_pipe, to_nothing, to_unreadable)


def real_copy(source: Path, target: Path) -> Path:
    """A cache to damage."""
    return Path(shutil.copytree(source, target, symlinks=True))
