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

from datasets.audio import to_int16
from datasets.errors import IntegrityError, UsageError
from datasets.manifest import Manifest, read_manifest
from train.data import read_split
from train.reading.hot_copy import hot_copy
from train.reading.order import AudioBatch, Reading, epoch_draws
from train.reading.resident import ResidentReader
from train.reading.shards import in_order
from train.reading.streaming import Streaming, StreamingReader, _Blocks

READING = Reading(window_samples=2_000, batch_size=12, seed=3)
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


def stream(
    manifest: Manifest,
    reading: Reading = READING,
    streaming: Streaming = STREAMING,
    *,
    epoch: int = 0,
    start_step: int = 0,
) -> list[AudioBatch]:
    return list(StreamingReader(manifest, "train", reading, streaming).batches(epoch, start_step))


def same(found: list[AudioBatch], expected: list[AudioBatch]) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(a.waveform, b.waveform) and torch.equal(a.presence, b.presence) and torch.equal(a.clips, b.clips)
        for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("fill", ["repeat", "zero"])
@pytest.mark.parametrize("epoch", [0, 1])  # whole clips, verified; then windows alone
def test_one_block_of_everything_is_read_as_the_resident_tier_reads_it(
    manifest: Manifest, fill: str, epoch: int
) -> None:
    reading = replace(READING, fill=fill, batch_size=3)  # type: ignore[arg-type]  # many batches in few buffers
    split = read_split(manifest, "train")
    gain_db = np.linspace(0, 6, NUM_CLIPS, dtype=np.float32)
    expected = list(ResidentReader(split, reading, gain_db=gain_db).batches(epoch))
    everything = replace(STREAMING, groups_per_block=1_000, batches_ahead=4)
    reader = StreamingReader(manifest, "train", reading, everything, gain_db=gain_db)
    assert same(list(reader.batches(epoch)), expected)


def test_an_epoch_holds_every_clip_once_with_its_labels(manifest: Manifest) -> None:
    batches = stream(manifest)
    assert [len(batch) for batch in batches] == [10, 10, 10, 10, 10]
    clips = [clip for batch in batches for clip in batch.clips.tolist()]
    assert sorted(clips) == list(range(50))
    for batch in batches:
        for clip, labels in zip(batch.clips.tolist(), batch.presence.tolist(), strict=True):
            assert labels == ([clip % 2, -1, -1, -1] if clip % 3 else [-1, 1, -1, -1])


@pytest.mark.parametrize("num_threads", [0, 1, 5])
def test_the_number_of_threads_changes_nothing(manifest: Manifest, num_threads: int) -> None:
    expected = stream(manifest, epoch=1)
    assert same(stream(manifest, streaming=replace(STREAMING, num_threads=num_threads), epoch=1), expected)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_each_step_of_one_process(manifest: Manifest, world_size: int) -> None:
    shares = [stream(manifest, replace(READING, rank=rank, world_size=world_size)) for rank in range(world_size)]
    together = [
        AudioBatch(*(torch.cat(parts) for parts in zip(*(vars(share).values() for share in step), strict=True)))
        for step in zip(*shares, strict=True)
    ]
    assert same(together, stream(manifest))


def test_an_epoch_can_begin_at_any_step(manifest: Manifest) -> None:
    whole = stream(manifest, epoch=2)
    for step in range(6):
        assert same(stream(manifest, epoch=2, start_step=step), whole[step:])


def test_clips_are_shuffled_within_blocks_of_row_groups_and_blocks_within_the_epoch(manifest: Manifest) -> None:
    orders = [[c for batch in stream(manifest, epoch=epoch) for c in batch.clips.tolist()] for epoch in (0, 1)]
    assert orders[0] != orders[1]
    groups = StreamingReader(manifest, "train", READING, STREAMING).table.group_of_clip
    for order in orders:
        positions = [[place for place, clip in enumerate(order) if groups[clip] == group] for group in range(13)]
        spans = [max(places) - min(places) + 1 for places in positions]
        assert max(spans) <= 8  # two groups of four
        mixed = [span > len(places) for span, places in zip(spans, positions, strict=True)]
        assert sum(mixed) >= 5  # of two groups, one comes in one run in every seventh order


def test_without_shuffling_clips_come_as_they_lie_in_the_shards(manifest: Manifest) -> None:
    reading = replace(READING, shuffle=False, random_windows=False)
    assert [c for batch in stream(manifest, reading) for c in batch.clips.tolist()] == list(range(50))


def test_chosen_clips_are_drawn_with_weights(manifest: Manifest) -> None:
    clips = np.arange(10, 20)
    reader = StreamingReader(manifest, "train", READING, STREAMING, clips=clips, weights=np.eye(10)[4] + np.eye(10)[9])
    drawn = [clip for batch in reader.batches(0) for clip in batch.clips.tolist()]
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


def test_in_the_first_epoch_every_clip_is_checked_and_a_wrong_one_named(tmp_path: Path) -> None:
    manifest = damaged(tmp_path, "wav", 1_000)
    with pytest.raises(IntegrityError, match=r"train-00000-of-00001\.parquet: clip fixture/39@0: samples differ"):
        stream(manifest)
    assert len(stream(manifest, epoch=1)) == 4  # a WAV cannot tell; the digest was not asked
    with pytest.raises(IntegrityError, match="clip fixture/39@0: samples differ"):
        stream(manifest, streaming=replace(STREAMING, verified_epochs=2), epoch=1)


@pytest.mark.parametrize("num_threads", [0, 2])
def test_audio_that_cannot_be_decoded_is_named_in_any_epoch(tmp_path: Path, num_threads: int) -> None:
    manifest = damaged(tmp_path, "flac", 0)
    with pytest.raises(IntegrityError, match=r"train-00000.*: clip fixture/39@0: audio cannot be decoded"):
        stream(manifest, streaming=replace(STREAMING, num_threads=num_threads), epoch=5)


def first_step(manifest: Manifest, epoch: int) -> list[int]:
    """Clips of an epoch's first step; their audio is not read."""
    table = StreamingReader(manifest, "train", READING).table
    groups = {"group_of_clip": table.group_of_clip, "groups_per_block": STREAMING.groups_per_block}
    draws = epoch_draws(READING, epoch, table.sizes, np.arange(len(table)), **groups)
    return draws.clips[draws.share(0, READING)].tolist()


def test_starting_late_decodes_nothing_of_what_came_before(tmp_path: Path) -> None:
    manifest = damaged(tmp_path, "flac", 0)
    epoch = next(number for number in itertools.count() if 39 in first_step(manifest, number))
    reader = StreamingReader(manifest, "train", READING, STREAMING)
    with pytest.raises(IntegrityError, match="clip fixture/39@0"):
        next(reader.batches(epoch))
    assert len(list(reader.batches(epoch, start_step=1))) == 3


def test_whoever_stops_early_leaves_no_thread_behind(manifest: Manifest) -> None:
    before = threading.active_count()
    batches = StreamingReader(manifest, "train", READING, STREAMING).batches(0)
    next(batches)
    assert threading.active_count() > before
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_batches_stay_what_they_are_while_later_ones_are_decoded(manifest: Manifest) -> None:
    kept: list[AudioBatch] = []
    copies: list[torch.Tensor] = []
    for batch in StreamingReader(manifest, "train", READING, STREAMING).batches(0):
        kept.append(batch)
        copies.append(batch.waveform.clone())
    assert all(torch.equal(batch.waveform, copy) for batch, copy in zip(kept, copies, strict=True))


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
    table = StreamingReader(manifest, "train", READING).table
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
    table = replace(StreamingReader(manifest, "train", READING).table, sizes=np.full(NUM_CLIPS, 40_000))
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
    reader = StreamingReader(manifest, "train", READING)
    assert (reader.num_steps(), list(reader.batches(0))) == (0, [])
    split = hot_copy(manifest, "train", tmp_path / "cache")
    assert list(ResidentReader(split, READING).batches(0)) == []


def test_a_split_that_the_dataset_lacks_is_named_with_those_it_has(manifest: Manifest) -> None:
    with pytest.raises(UsageError, match=r"no split 'test'; it has train"):
        StreamingReader(manifest, "test", READING)


@pytest.mark.parametrize("values", [{"groups_per_block": 0}, {"batches_ahead": 0}, {"num_threads": -1}])
def test_streaming_that_makes_no_sense_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Streaming(**values)
