import io
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import signals
import soundfile
import torch
from dataset_fixture import SAMPLE_RATE, Example, reseal, write_dataset
from materials import read_split

from tutti.datasets.audio import to_int16
from tutti.datasets.errors import IntegrityError
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.train.clips import Batch, Clips, StreamedClips
from tutti.train.reading.hot_copy import hot_copy
from tutti.train.reading.order import Draws, Reading, epoch_draws
from tutti.train.reading.resident import linear
from tutti.train.reading.shards import in_order, split_table
from tutti.train.reading.streaming import Streaming, _Blocks

READING = Reading(length=2_000, batch_size=12, seed=3)
STREAMING = Streaming(groups_per_block=2, num_threads=2, batches_ahead=2)
NUM_CLIPS = 50  # in row groups of 4: 7 shards, 13 groups, 7 blocks


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Clips of different lengths, some shorter than a window, some labels unknown."""
    examples = [
        Example(f"fixture/{n:03d}@0", "train", noise(n, 1_200 + 60 * n), {"cello": n % 2} if n % 3 else {"flute": 1})
        for n in range(NUM_CLIPS)
    ]
    return read_manifest(write_dataset(tmp_path_factory.mktemp("streamed"), examples, rows_per_shard=8))


def noise(seed: int, num_samples: int) -> np.ndarray:
    return to_int16(signals.noise(num_samples / SAMPLE_RATE, sample_rate=SAMPLE_RATE, seed=seed)[0])


def opened(manifest: Manifest, streaming: Streaming = STREAMING, gain_db: float = 0.0) -> StreamedClips:
    """The clips of the split as training streams them; the first pass over them checks digests."""
    table = split_table(manifest, "train")
    lengths, presence = torch.from_numpy(table.sizes), torch.from_numpy(table.presence)
    gains = torch.from_numpy(linear(np.full(len(table), gain_db, np.float32)))
    return StreamedClips(table, lengths, presence, "samples", gains, streaming=streaming)


def order(clips: StreamedClips, epoch: int = 0) -> Draws:
    groups = {"group_of_clip": clips.table.group_of_clip, "groups_per_block": clips.streaming.groups_per_block}
    return epoch_draws(READING, epoch, clips.table.sizes, np.arange(len(clips)), **groups)


def stream(clips: StreamedClips, epoch: int = 0, start_step: int = 0) -> list[Batch]:
    return list(clips.batches(order(clips, epoch), READING.length, start_step=start_step))


def same(found: list[Batch], expected: list[Batch]) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(a, b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("last", ["repeat", "zero"])
def test_windows_are_those_of_the_resident_tier_in_the_first_pass_and_in_later_ones(
    manifest: Manifest, last: str
) -> None:
    streamed = opened(manifest, gain_db=6.0)
    split = read_split(manifest, "train")
    resident = Clips(
        torch.from_numpy(split.samples), torch.from_numpy(split.table.offsets[:-1]), streamed.lengths,
        streamed.presence, streamed.groups, "samples", streamed.gains,
    )  # fmt: skip
    draws = epoch_draws(replace(READING, batch_size=3), 0, streamed.table.sizes, np.arange(NUM_CLIPS))
    expected = list(resident.batches(draws, 2_000, last))
    for _ in range(2):  # whole clips, verified; then windows alone
        assert same(list(streamed.batches(draws, 2_000, last)), expected)


def test_an_epoch_holds_every_clip_once(manifest: Manifest) -> None:
    batches = stream(opened(manifest))
    assert [len(clips_B) for clips_B, _ in batches] == [10, 10, 10, 10, 10]
    assert sorted(torch.cat([clips_B for clips_B, _ in batches]).tolist()) == list(range(50))


@pytest.mark.parametrize("num_threads", [0, 1, 5])
def test_the_number_of_threads_changes_nothing(manifest: Manifest, num_threads: int) -> None:
    expected = stream(opened(manifest), epoch=1)
    assert same(stream(opened(manifest, replace(STREAMING, num_threads=num_threads)), epoch=1), expected)


def test_an_epoch_can_begin_at_any_step(manifest: Manifest) -> None:
    clips = opened(manifest)
    whole = stream(clips, epoch=2)
    for step in range(6):
        assert same(stream(clips, epoch=2, start_step=step), whole[step:])


def test_clips_are_shuffled_within_blocks_of_row_groups_and_blocks_within_the_epoch(manifest: Manifest) -> None:
    clips = opened(manifest)
    orders = [order(clips, epoch).clips.tolist() for epoch in (0, 1)]
    assert orders[0] != orders[1]
    groups = clips.table.group_of_clip
    for drawn in orders:
        positions = [[place for place, clip in enumerate(drawn) if groups[clip] == group] for group in range(13)]
        spans = [max(places) - min(places) + 1 for places in positions]
        assert max(spans) <= 8  # two groups of four
        mixed = [span > len(places) for span, places in zip(spans, positions, strict=True)]
        assert sum(mixed) >= 5  # of two groups, one comes in one run in every seventh order


def test_chosen_clips_are_drawn_with_weights(manifest: Manifest) -> None:
    clips, weights = opened(manifest), np.eye(10)[4] + np.eye(10)[9]
    draws = epoch_draws(READING, 0, clips.table.sizes, np.arange(10, 20), weights=weights)
    drawn = torch.cat([clips_B for clips_B, _ in clips.batches(draws, READING.length)]).tolist()
    assert len(drawn) == 10
    assert set(drawn) == {14, 19}


def damaged(folder: Path, audio_format: str, damage: int) -> Manifest:
    """Forty clips of which the last has one bit of its audio flipped."""
    examples = [Example(f"fixture/{n:02d}@0", "train", noise(n, 3_000), {"cello": 1}) for n in range(40)]
    manifest = read_manifest(write_dataset(folder, examples, rows_per_shard=40, audio_format=audio_format))
    (info,) = manifest.shards("train")
    path = manifest.folder / info.path
    content = bytearray(path.read_bytes())
    start = content.rfind({"wav": b"RIFF", "flac": b"fLaC"}[audio_format])
    content[start + damage] ^= 1
    path.write_bytes(content)
    reseal(folder, manifest)
    return manifest


def test_in_the_first_pass_every_clip_is_checked_and_a_wrong_one_named(tmp_path: Path) -> None:
    clips = opened(damaged(tmp_path, "wav", 1_000))
    with pytest.raises(IntegrityError, match=r"train-00000-of-00001\.parquet: clip fixture/39@0: its audio"):
        stream(clips)
    assert len(stream(clips)) == 4  # a WAV cannot tell, and later passes compute no digest


@pytest.mark.parametrize("num_threads", [0, 2])
def test_audio_that_cannot_be_decoded_is_named_in_any_pass(tmp_path: Path, num_threads: int) -> None:
    clips = opened(damaged(tmp_path, "flac", 0), replace(STREAMING, num_threads=num_threads))
    for _ in range(2):
        with pytest.raises(IntegrityError, match=r"train-00000.*: clip fixture/39@0: audio cannot be decoded"):
            stream(clips)


def test_starting_late_decodes_nothing_of_what_came_before(tmp_path: Path) -> None:
    clips = opened(damaged(tmp_path, "flac", 0))

    def first_step(epoch: int) -> list[int]:
        draws = order(clips, epoch)
        return draws.clips[draws.step(0)].tolist()

    epoch = next(number for number in itertools.count() if 39 in first_step(number))
    with pytest.raises(IntegrityError, match="clip fixture/39@0"):
        next(clips.batches(order(clips, epoch), READING.length))
    assert len(stream(clips, epoch, start_step=1)) == 3


def test_whoever_stops_early_leaves_no_thread_behind(manifest: Manifest) -> None:
    clips = opened(manifest)
    before = set(threading.enumerate())  # of other tests: some of them may end meanwhile
    batches = clips.batches(order(clips), READING.length)
    next(batches)
    assert set(threading.enumerate()) - before
    batches.close()  # type: ignore[attr-defined]
    assert not set(threading.enumerate()) - before


def test_batches_stay_what_they_are_while_later_ones_are_decoded(manifest: Manifest) -> None:
    clips = opened(manifest)
    kept: list[torch.Tensor] = []
    copies: list[torch.Tensor] = []
    for _, window in clips.batches(order(clips), READING.length):
        kept.append(window)
        copies.append(window.clone())
    assert all(torch.equal(window, copy) for window, copy in zip(kept, copies, strict=True))


def test_work_ahead_is_bounded_and_results_keep_their_order() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            begun.append(number)
            yield number

    results = in_order(lambda number: number * 10, items(), num_threads=3, ahead=5)
    assert [next(results), next(results)] == [0, 10]
    assert len(begun) == 7  # two taken, five ahead
    assert list(results) == [number * 10 for number in range(2, 100)]


def test_an_error_stands_where_its_result_would() -> None:
    results = in_order(lambda number: 1 // (number - 2), range(100), num_threads=2, ahead=8)
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_two_blocks_of_encoded_audio_are_held_at_a_time(manifest: Manifest) -> None:
    table = split_table(manifest, "train")
    block_N = table.group_of_clip // 2
    with ThreadPoolExecutor(1) as loader:
        blocks = _Blocks(table, block_N, np.arange(NUM_CLIPS), table.group_of_clip, loader)
        for name in range(7):
            held = blocks.get([name])[name]()
            assert sorted(held) == np.flatnonzero(block_N == name).tolist()
            assert sorted(blocks._open) == [name, name + 1][: 7 - name]  # the next one is being read


def test_a_window_of_a_flac_file_is_that_of_the_whole(manifest: Manifest) -> None:
    samples = noise(1, 40_000)
    stream = io.BytesIO()
    soundfile.write(stream, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    table = replace(split_table(manifest, "train"), sizes=np.full(NUM_CLIPS, 40_000))
    part = np.empty(2_000, np.int16)
    for first in (0, 1, 4_095, 4_096, 20_001, 38_000):
        table.decode_part(Path("shard"), 0, stream.getvalue(), first, part)
        assert np.array_equal(part, samples[first : first + 2_000])
    with pytest.raises(IntegrityError, match=r"shard: clip fixture/000@0: ends before sample 41000"):
        table.decode_part(Path("shard"), 0, stream.getvalue(), 39_000, part)


def test_a_split_without_clips_is_an_epoch_without_steps(tmp_path: Path) -> None:
    manifest = read_manifest(write_dataset(tmp_path, [Example("fixture/a@0", "train", noise(0, 800), {})]))
    (info,) = manifest.shards("train")
    path = manifest.folder / info.path
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    manifest.content["shards"][0]["num_rows"] = 0
    reseal(tmp_path, manifest)
    clips = opened(manifest)
    assert (order(clips).num_steps, stream(clips)) == (0, [])
    assert hot_copy(manifest, "train", tmp_path / "cache").samples.tolist() == []


@pytest.mark.parametrize("values", [{"groups_per_block": 0}, {"batches_ahead": 0}, {"num_threads": -1}])
def test_streaming_that_makes_no_sense_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Streaming(**values)
