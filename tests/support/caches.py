"""Caches for tests: aged, damaged, listed, and filled by the real prepare stage."""

import os
import time
from pathlib import Path

import pytest
import signals
from rows import clip

from tutti.datasets.record import Media, Recording, StoredAudio
from tutti.pipelines.cache.__main__ import main
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages.prepare import PrepareConfig, prepare

DAY_S = 86_400


def age(path: Path, days: float = 60) -> None:
    """As if it had been written days ago."""
    then_s = time.time() - days * DAY_S
    for below in [*path.rglob("*"), path]:
        os.utime(below, (then_s, then_s))


def rot(path: Path) -> None:
    """Flip a bit."""
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def files(cache: Cache) -> list[str]:
    """Paths of all files below the cache, locks aside."""
    found = (path.relative_to(cache.root).as_posix() for path in cache.root.rglob("*") if path.is_file())
    return sorted(path for path in found if path != ".lock")


def run(cache: Cache, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    """Exit code, lines of stdout, stderr."""
    code = main([*arguments, "--cache-dir", str(cache.root)])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def prepared(cache: Cache, frequency_hz: float = 440.0) -> tuple[str, StoredAudio]:
    """A recording that went through the real prepare stage: (digest of its blob, its stored audio)."""
    tone = signals.encoded(signals.sine(1.0, frequency_hz=frequency_hz, sample_rate=16_000), sample_rate=16_000)
    upstream = cache.receive([tone], label="video", sha256=None, md5=None).sha256
    media = Media("https://www.youtube.com/watch?v=-abc_DEF123", sha256=upstream)
    (row,) = prepare(
        Recording(media, (clip("audioset/-abc_DEF123@0", audio=None),)), config=PrepareConfig(), cache=cache
    )
    return upstream, row.audio
