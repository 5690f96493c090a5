"""Clips that the machine loses: the version says that it lacks them, and one more build is as if nothing had been."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from own_songs import Mine

from tutti.datasets.manifest import read_manifest

SMALL_BYTES = 200 << 20  # a decoder holds 126 MiB that works on seconds, 337 MiB on five minutes
LONG_S = 300
DECODER = "tutti-decoder"


@contextlib.contextmanager
def a_system_short_of_memory() -> Iterator[None]:
    """Kill, as the system does for want of memory, every decoder that grows."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    # Not one that is just being started: until then its memory is this process's.
                    if child.name() == DECODER and child.memory_info().rss > SMALL_BYTES:
                        child.kill()
            time.sleep(0.002)

    killer = threading.Thread(target=work)
    killer.start()
    try:
        yield
    finally:
        done.set()
        killer.join()


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_clips_lost_to_the_system_are_back_in_the_next_build_with_the_splits_of_an_undisturbed_one(
    tmp_path: Path, first: bool
) -> None:
    mine = Mine(tmp_path / "mine", tmp_path, songs=12)
    outputs = {"out": "cache", "undisturbed": "other-cache"}
    if not first:
        for output, cache in outputs.items():
            mine.build("--cache-dir", str(tmp_path / cache), output=output)
    mine.add("song12", 12, length_s=LONG_S)
    for number in range(13, 16):
        mine.add(f"song{number}", number)
    mine.label()
    with a_system_short_of_memory():
        lossy = mine.build()
    lost = read_manifest(tmp_path / "out").content["incomplete"]
    again = mine.build()
    undisturbed = mine.build("--cache-dir", str(tmp_path / "other-cache"), output="undisturbed")

    assert (lossy["complete"], lost) == (False, {"decoder_killed": 1})
    assert f"version {lossy['version']} is incomplete: this machine kept others from being worked on" in lossy["notes"]
    assert (again["root_digest"], again["version"]) == (undisturbed["root_digest"], undisturbed["version"])
    assert again["clips"] == {"kept": 16, "rejected": {}}
    assert mine.build()["changed"] is False
