"""Embedding in batches: full slices, no result depends on the batch, and a clip that fails fails alone."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from rows import clip, stored
from signals import noise, sine
from tiny_ast import write_tiny_ast

from tutti.datasets import audio
from tutti.datasets.errors import CacheDamageError, UsageError
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.embedders import ast, builtin
from tutti.pipelines.embedders.slices import Inputs, Slices, in_slices
from tutti.pipelines.engine import ahead as ahead_module
from tutti.pipelines.engine.ahead import ahead
from tutti.pipelines.engine.progress import read_tallies, reporter
from tutti.pipelines.engine.stage import apply
from tutti.pipelines.recipe import load_recipe, override
from tutti.pipelines.rows import Embedded
from tutti.pipelines.stages import embed as stage
from tutti.pipelines.stages.embed import (
    EmbedConfig,
    batches_of,
    embed,
    embed_batch,
    embedder_of,
    recall,
    same_sound,
    sound_of,
)

RATE = 16_000
LENGTHS_S = (1.0, 0.5, 2.0, 1.3, 0.9)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_ast(tmp_path_factory.mktemp("ast"))


@pytest.fixture
def device_path(folder, monkeypatch):
    """The embedder as on a GPU, on a CPU: 16 clips through the model at once."""
    monkeypatch.setitem(ast.SLICE_CLIPS, "cpu", 16)
    embedder_of.cache_clear()
    yield EmbedConfig(embedder="ast", folder=str(folder))
    embedder_of.cache_clear()


def stored_clip(cache, number, seconds=None):
    """A clip of noise and a tone, stored as prepare stores it."""
    seconds = LENGTHS_S[number % 5] if seconds is None else seconds
    tone = sine(seconds, frequency_hz=150.0 + 10 * number, sample_rate=RATE)[0]
    samples = audio.to_int16(0.5 * (noise(seconds, sample_rate=RATE, seed=number)[0] + tone))
    blob = cache.put_blob(audio.encode(samples, RATE, "flac"))
    facts = stored(blob=blob, pcm_sha256=audio.pcm_sha256(samples), num_samples=len(samples))
    return clip(f"irmas/{number:03d}@0", audio=facts)


def in_batches(clips, config, cache, progress):
    """Results of all clips, by digest of their samples, through the batches that the build makes."""
    batches = list(batches_of([sound_of(one) for one in clips], config=config))
    found = [
        result for batch in batches for result in embed_batch(batch, config=config, cache=cache, progress=progress)
    ]
    return {result.pcm_sha256: result for result in found}


def vectors(results, cache):
    return {sha256: cache.read_blob(result.embedding) for sha256, result in results.items()}


# --- slices


def test_rows_of_several_clips_share_a_slice_and_only_the_last_one_is_filled_up():
    seen, count = [], Slices()

    def run(kind, rows):
        seen.append([float(row[0]) for row in rows])
        return np.stack(rows)

    clips = [
        Inputs([np.float32([10 * clip + row]) for row in range(rows)]) for clip, rows in enumerate((2, 3, 1, 0, 3))
    ]
    found = [(clip, rows.ravel().tolist()) for clip, rows in in_slices(clips, 4, run, count)]

    assert seen == [[0, 1, 10, 11], [12, 20, 40, 41], [42]]
    assert found == [(0, [0, 1]), (3, []), (1, [10, 11, 12]), (2, [20]), (4, [40, 41, 42])]
    assert count == Slices(slices=3, rows=9, wasted=3)


def test_rows_of_another_kind_have_slices_of_their_own():
    seen = []
    clips = [Inputs([np.float32([number])], kind=number % 2) for number in range(5)]

    def run(kind, rows):
        seen.append((kind, [float(row[0]) for row in rows]))
        return np.stack(rows)

    list(in_slices(clips, 2, run, Slices()))

    assert seen == [(0, [0, 2]), (1, [1, 3]), (0, [4])]


def test_on_a_device_every_slice_is_full_but_the_last(device_path, cache, tmp_path):
    clips = [stored_clip(cache, number) for number in range(70)]

    found = in_batches(clips, replace(device_path, batch=24), cache, tmp_path)  # rounded up to 32, two slices

    assert len(found) == 70
    assert embedder_of(replace(device_path, batch=24)).count == Slices(slices=5, rows=70, wasted=10)


def test_what_was_computed_before_takes_no_place_in_a_slice(device_path, cache, tmp_path):
    clips = [stored_clip(cache, number) for number in range(40)]
    in_batches(clips[::3], device_path, cache, tmp_path)
    count = embedder_of(device_path).count
    before = replace(count)

    lacking = [one for one in clips if recall(one, config=device_path, cache=cache).embedding is None]
    in_batches(lacking, device_path, cache, tmp_path)

    assert len(lacking) == 26
    assert count == Slices(before.slices + 2, before.rows + 26, before.wasted + 6)


def test_excerpts_of_several_clips_share_the_slices_of_the_builtin_net():
    embedder = builtin.load()
    before = replace(embedder.count)

    embedder.embed([noise(10.0, sample_rate=RATE, seed=seed)[0] for seed in range(4)])  # six excerpts each

    assert embedder.count == Slices(before.slices + 6, before.rows + 24, before.wasted)


# --- no result depends on the batch


@pytest.mark.parametrize("name", ["logmel", "builtin", "device"])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_embeddings_are_those_of_each_clip_alone_in_every_batch(name, batch, device_path, cache, tmp_path):
    config = replace(device_path if name == "device" else EmbedConfig(embedder=name), batch=batch)
    clips = [stored_clip(cache, number) for number in range(20)]
    alone = Cache(tmp_path / "alone")
    for number in range(20):
        stored_clip(alone, number)

    found = vectors(in_batches(clips, config, cache, tmp_path), cache)

    one_by_one = {one.audio.pcm_sha256: embed(one, config=config, cache=alone).embedding for one in clips}
    assert found == {sha256: alone.read_blob(blob) for sha256, blob in one_by_one.items()}


def test_where_a_row_lies_in_its_slice_changes_no_bit(device_path):
    waveforms = [noise(1.0, sample_rate=RATE, seed=seed)[0] for seed in range(16)]
    embedder = embedder_of(device_path)
    together = embedder.embed(waveforms)

    for turn in (1, 5, 11):
        assert np.array_equal(embedder.embed(waveforms[turn:] + waveforms[:turn]), np.roll(together, -turn, axis=0))


def test_batches_are_the_same_for_any_order_and_hold_equal_samples_once(cache):
    sounds = [sound_of(stored_clip(cache, number)) for number in (0, 1, 2, 3, 3, 0, 3)]
    config = EmbedConfig(embedder="logmel", batch=3)

    batches = list(batches_of(sounds, config=config))

    assert batches == list(batches_of(sounds[::-1], config=config))
    assert [[(sound.num_samples, sound.num_clips) for sound in batch] for batch in batches] == [
        [(8_000, 1), (16_000, 2), (20_800, 3)],
        [(32_000, 1)],
    ]
    assert list(batches_of([], config=config)) == []


def test_a_batch_is_a_setting_of_the_command_line_and_of_no_manifest():
    recipe = override(load_recipe("ultimate"), "embed.batch=7")

    assert recipe.embed.batch == 7
    with pytest.raises(UsageError, match=r"embed\.batch must be at least 1, got 0"):
        override(recipe, "embed.batch=0")


# --- what fails


def test_a_clip_that_cannot_be_embedded_is_rejected_alone(device_path, cache, tmp_path):
    clips = [stored_clip(cache, number) for number in range(20)] + [stored_clip(cache, 20, seconds=0.01)]

    found = in_batches(clips, device_path, cache, tmp_path)
    joined = same_sound("", clips, list(found.values()))
    rows = [row for one in joined for row in apply("embed", lambda c: embed(c, config=device_path, cache=cache), one)]

    assert len(found) == 20
    assert [getattr(row, "reason", None) for row in rows] == [None] * 20 + ["error:embed"]
    assert "160 samples are less than a frame" in rows[20].detail


def test_a_slice_that_fails_leaves_its_clips_and_no_others(device_path, cache, tmp_path, monkeypatch):
    """As where a GPU has no memory for a moment."""
    clips = [stored_clip(cache, number, seconds=1.0) for number in range(48)]
    embedder, calls = embedder_of(device_path), []
    run = embedder.run

    def short_of_memory(kind, rows):
        calls.append(len(rows))
        if len(calls) == 2:
            raise MemoryError
        return run(kind, rows)

    monkeypatch.setattr(embedder, "run", short_of_memory)

    assert len(in_batches(clips, device_path, cache, tmp_path)) == 32
    assert calls == [16, 16, 16]


def test_an_embedding_that_is_no_number_is_left_to_its_clip_which_says_so(cache, tmp_path, monkeypatch):
    config = EmbedConfig(embedder="builtin")
    clips = [stored_clip(cache, number) for number in range(5)]
    bad = clips[2].audio.num_samples
    embedder = embedder_of(config)
    vector = embedder.vector

    def damaged(inputs, outputs):
        made = vector(inputs, outputs)
        return made if not np.array_equal(made, spoilt) else np.full_like(made, np.nan)

    spoilt = embedder.embed([stage.samples_of(clips[2].audio.blob, cache).astype(np.float32) / np.float32(32_768)])[0]
    monkeypatch.setattr(embedder, "vector", damaged)

    found = in_batches(clips, config, cache, tmp_path)

    assert bad == 32_000
    assert set(found) == {one.audio.pcm_sha256 for one in clips} - {clips[2].audio.pcm_sha256}
    with pytest.raises(ValueError, match="irmas/002@0: its embedding holds a number that is none"):
        embed(clips[2], config=config, cache=cache)


def test_damage_of_the_cache_ends_the_batch_so_that_it_can_be_healed(cache, tmp_path):
    clips = [stored_clip(cache, number) for number in range(6)]
    path = cache.blob_path(clips[3].audio.blob)
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(CacheDamageError):
        in_batches(clips, EmbedConfig(embedder="logmel"), cache, tmp_path)


def test_each_embedding_is_remembered_as_it_comes(device_path, cache, tmp_path):
    clips = [stored_clip(cache, number, seconds=1.0) for number in range(40)]
    (batch,) = batches_of([sound_of(one) for one in clips], config=device_path)

    begun = embed_batch(batch, config=device_path, cache=cache, progress=tmp_path)
    for _ in range(20):
        next(begun)
    begun.close()  # as where the build is killed

    known = [one for one in clips if recall(one, config=device_path, cache=cache).embedding is not None]
    assert len(known) == 20


# --- one pass over the samples


def test_a_clip_is_decoded_once_for_embedding_and_fingerprint(cache, tmp_path, monkeypatch):
    clips, decoded = [stored_clip(cache, number) for number in range(6)], []
    read = stage.samples_of

    def counted(blob, cache):
        decoded.append(blob)
        return read(blob, cache)

    monkeypatch.setattr(stage, "samples_of", counted)
    found = in_batches(clips, EmbedConfig(embedder="logmel"), cache, tmp_path)

    assert sorted(decoded) == sorted(one.audio.blob for one in clips)
    assert all(isinstance(result, Embedded) and result.fingerprint for result in found.values())


def test_a_lost_fingerprint_is_made_again_without_the_model(device_path, cache, tmp_path):
    clips = [stored_clip(cache, number) for number in range(3)]
    found = in_batches(clips, device_path, cache, tmp_path)
    slices = embedder_of(device_path).count.slices
    cache.blob_path(found[clips[1].audio.pcm_sha256].fingerprint).unlink()

    assert recall(clips[1], config=device_path, cache=cache).embedding is None
    assert in_batches([clips[1]], device_path, cache, tmp_path) == {
        sha256: result for sha256, result in found.items() if sha256 == clips[1].audio.pcm_sha256
    }
    assert embedder_of(device_path).count.slices == slices


def test_clips_are_counted_as_they_are_done(cache, tmp_path):
    clips = [stored_clip(cache, number) for number in (0, 1, 2, 0)]
    in_batches(clips, EmbedConfig(embedder="logmel"), cache, tmp_path)
    reporter(tmp_path).flush()

    assert read_tallies(tmp_path)["embed"].done == 4


def test_no_more_is_decoded_ahead_than_the_bound_says():
    begun, lock = [], threading.Lock()

    def work(item):
        with lock:
            begun.append(item)
        return item

    taken, most_ahead = 0, 0
    for item, future in ahead(range(100), work, lambda item: 10, 50):
        assert future.result() == item
        taken += 1
        most_ahead = max(most_ahead, len(begun) - taken)

    assert taken == 100
    assert most_ahead <= 5
    assert [item for item, _ in ahead([7, 8], work, lambda item: 1_000, 50)] == [7, 8]  # each more than the bound
    assert ahead_module.MOST_THREADS == 8
