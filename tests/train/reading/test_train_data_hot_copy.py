import hashlib
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import signals
from dataset_fixture import SAMPLE_RATE, Example, reseal, write_dataset
from materials import read_split

from tutti.datasets.audio import to_int16
from tutti.datasets.errors import IntegrityError, StorageError
from tutti.datasets.manifest import Manifest, manifest_path, read_manifest
from tutti.train.reading.hot_copy import hot_copy

_FORK = multiprocessing.get_context("fork")  # the parent's imports are there: torch alone takes seconds


def example(name: str, seed: int, *, duration_s: float = 0.2, **labels: int) -> Example:
    waveform = signals.noise(duration_s, sample_rate=SAMPLE_RATE, seed=seed)
    return Example(f"fixture/{name}@0", "train", to_int16(waveform[0]), labels)


def dataset(folder: Path, *examples: Example) -> Manifest:
    """One clip per shard, as WAV: its samples can be found in the file, to be damaged."""
    return read_manifest(write_dataset(folder, examples, rows_per_shard=1, audio_format="wav"))


def three(folder: Path) -> Manifest:
    return dataset(folder, *(example(name, seed, cello=1) for seed, name in enumerate("abc")))


def damage(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def damage_shard(manifest: Manifest, index: int) -> None:
    """From now on, decoding this shard is an error."""
    path = manifest.folder / manifest.shards("train")[index].path
    damage(path, path.read_bytes().find(b"data") + 100)  # samples of its only clip
    reseal(manifest.folder, manifest)


def suffixes(cache: Path) -> list[str]:
    return sorted(path.suffix for path in (cache / "hot").iterdir() if path.is_file())


def the_file(cache: Path, suffix: str = "int16") -> Path:
    (path,) = (cache / "hot").glob(f"*.{suffix}")
    return path


def test_a_hot_copy_holds_what_the_shards_hold_as_a_map_of_one_file(tmp_path: Path) -> None:
    manifest = three(tmp_path / "data")
    split, expected = hot_copy(manifest, "train", tmp_path / "cache"), read_split(manifest, "train")
    assert isinstance(split.samples, np.memmap)
    assert split.samples.filename == the_file(tmp_path / "cache")
    assert split.samples.tobytes() == expected.samples.tobytes()
    assert (split.table.ids, split.table.sample_rate) == (expected.table.ids, 16_000)
    assert split.table.offsets.tolist() == [0, 3200, 6400, 9600]
    assert split.table.presence.tolist() == [[1, -1, -1, -1]] * 3
    assert not split.samples.flags.writeable


def test_shards_are_decoded_once(tmp_path: Path) -> None:
    manifest = three(tmp_path / "data")
    first = hot_copy(manifest, "train", tmp_path / "cache").samples.tobytes()
    for index in range(3):
        damage_shard(manifest, index)
    assert hot_copy(manifest, "train", tmp_path / "cache").samples.tobytes() == first
    with pytest.raises(IntegrityError, match="its audio is not what its digest says"):
        hot_copy(manifest, "train", tmp_path / "another cache")


def test_a_damaged_part_is_decoded_again_and_the_others_are_kept(tmp_path: Path) -> None:
    manifest = three(tmp_path / "data")
    expected = hot_copy(manifest, "train", tmp_path / "cache").samples.tobytes()
    damage(the_file(tmp_path / "cache"), 6400 + 10)  # in the second clip
    damage_shard(manifest, 0)
    damage_shard(manifest, 2)
    assert hot_copy(manifest, "train", tmp_path / "cache").samples.tobytes() == expected
    assert the_file(tmp_path / "cache").read_bytes() == expected


@pytest.mark.parametrize("hurt", ["truncate", "odd", "empty", "remove", "no list", "list is no JSON", "list is short"])
def test_whatever_happens_to_its_files_a_hot_copy_is_made_whole(tmp_path: Path, hurt: str) -> None:
    manifest = three(tmp_path / "data")
    expected = hot_copy(manifest, "train", tmp_path / "cache").samples.tobytes()
    path, listing = the_file(tmp_path / "cache"), the_file(tmp_path / "cache", "json")
    if hurt in ("truncate", "odd", "empty"):
        path.write_bytes(expected[: {"truncate": 9000, "odd": 9001, "empty": 0}[hurt]])
    elif hurt == "remove":
        path.unlink()
    elif hurt == "no list":
        listing.unlink()
    elif hurt == "list is no JSON":
        listing.write_bytes(b"\xff{")
    else:
        content = json.loads(listing.read_text())
        content["parts"] = [{"key": "none"}]
        listing.write_text(json.dumps(content))
    assert hot_copy(manifest, "train", tmp_path / "cache").samples.tobytes() == expected
    assert path.read_bytes() == expected


def test_another_version_takes_equal_shards_from_the_copy_of_the_first(tmp_path: Path) -> None:
    a, b, c, d = (example(name, seed) for seed, name in enumerate("abcd"))
    hot_copy(dataset(tmp_path / "old", a, b, c), "train", tmp_path / "cache")
    new = dataset(tmp_path / "new", a, c, d)  # other positions, other neighbors
    expected = read_split(new, "train").samples.tobytes()
    damage_shard(new, 0)
    damage_shard(new, 1)
    assert hot_copy(new, "train", tmp_path / "cache").samples.tobytes() == expected
    assert len(list((tmp_path / "cache" / "hot").glob("*.int16"))) == 2


def test_labels_and_loudness_are_those_of_the_version_that_is_read(tmp_path: Path) -> None:
    old = dataset(tmp_path / "old", example("a", 0, cello=1))
    hot_copy(old, "train", tmp_path / "cache")
    samples = to_int16(signals.noise(0.2, sample_rate=SAMPLE_RATE, seed=0)[0])
    relabeled = Example("fixture/a@0", "train", samples, {"flute": 1, "cello": 0}, loudness_lufs=-20.0, gain_db=2.5)
    split = hot_copy(dataset(tmp_path / "new", relabeled), "train", tmp_path / "cache")
    assert split.table.presence.tolist() == [[0, 1, -1, -1]]
    assert (split.table.loudness_lufs.tolist(), split.table.gain_db.tolist()) == ([-20.0], [2.5])


def test_a_content_digest_that_lies_does_not_pass_off_other_samples(tmp_path: Path) -> None:
    old, new = dataset(tmp_path / "old", example("a", 0)), dataset(tmp_path / "new", example("a", 1))
    hot_copy(old, "train", tmp_path / "cache")
    path = manifest_path(new.folder)
    content = json.loads(path.read_text())
    content["shards"][0]["content_sha256"] = old.shards("train")[0].content_sha256
    path.write_text(json.dumps(content))
    split = hot_copy(read_manifest(new.folder), "train", tmp_path / "cache")
    assert split.samples.tobytes() == read_split(new, "train").samples.tobytes()


def test_a_clip_that_cannot_be_decoded_is_named_and_leaves_no_copy(tmp_path: Path) -> None:
    manifest = three(tmp_path / "data")
    damage_shard(manifest, 1)
    with pytest.raises(IntegrityError, match=r"train-00001-of-00003\.parquet: clip fixture/b@0: its audio is not what"):
        hot_copy(manifest, "train", tmp_path / "cache")
    assert suffixes(tmp_path / "cache") == [".lock"]


def test_a_full_disk_is_said_so_and_leaves_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = three(tmp_path / "data")
    monkeypatch.setenv("TUTTI_FAIL_AT", "written:*.int16")
    with pytest.raises(StorageError, match=r"No space left on device.*free space"):
        hot_copy(manifest, "train", tmp_path / "cache")
    assert suffixes(tmp_path / "cache") == [".lock"]


def test_a_cache_folder_that_cannot_be_one_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match=r"cannot be written .*choose another cache folder"):
        hot_copy(three(tmp_path / "data"), "train", tmp_path / "cache")


def start(data: Path, cache: Path, digests: Any = None, **env: str) -> Any:
    """A process of its own that asks for the hot copy and puts its digest into a queue."""

    def work() -> None:
        os.environ.update(env)
        split = hot_copy(read_manifest(data), "train", cache)
        if digests is not None:
            digests.put(hashlib.sha256(split.samples.tobytes()).hexdigest())

    process = _FORK.Process(target=work)
    process.start()
    return process


@pytest.mark.parametrize("point", ["written:*.int16", "renamed:*.int16", "written:*.json"])
def test_a_killed_process_leaves_nothing_that_the_next_one_trips_over(tmp_path: Path, point: str) -> None:
    manifest = three(tmp_path / "data")
    killed = start(manifest.folder, tmp_path / "cache", TUTTI_CRASH_AT=point)
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    split = hot_copy(manifest, "train", tmp_path / "cache")
    assert split.samples.tobytes() == read_split(manifest, "train").samples.tobytes()
    assert suffixes(tmp_path / "cache") == [".int16", ".json", ".lock"]  # no temporary file


def test_processes_that_ask_at_once_get_one_copy(tmp_path: Path) -> None:
    examples = [example(f"{number:02d}", number, duration_s=5) for number in range(24)]
    manifest = dataset(tmp_path / "data", *examples)
    digests = _FORK.Queue()
    expected = hashlib.sha256(read_split(manifest, "train").samples.tobytes()).hexdigest()
    processes = [start(manifest.folder, tmp_path / "cache", digests) for _ in range(3)]
    assert {digests.get(timeout=60) for _ in processes} == {expected}
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list((tmp_path / "cache" / "hot").glob("*.int16"))) == 1


def test_those_who_hold_a_copy_keep_it_when_it_is_removed(tmp_path: Path) -> None:
    manifest = three(tmp_path / "data")
    held = hot_copy(manifest, "train", tmp_path / "cache")
    the_file(tmp_path / "cache").unlink()
    again = hot_copy(manifest, "train", tmp_path / "cache")
    assert held.samples.tobytes() == again.samples.tobytes()
