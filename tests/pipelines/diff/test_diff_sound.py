"""Changed audio by ear: a re-encoded copy is equivalent, other audio is not."""

import json
from pathlib import Path

import numpy as np
import pytest
import signals
from dataset_fixture import Example, write_dataset
from numpy.typing import NDArray

from tutti.datasets.audio import decode, resample, to_int16, to_mono
from tutti.datasets.manifest import read_manifest
from tutti.pipelines.diff.sound import listener, sounds_alike, stored_samples

RATE = 16_000


def music(seed: int, duration_s: float = 4.0) -> NDArray[np.float32]:
    """Notes of changing pitch, loudness and length over noise."""
    rng = np.random.default_rng(seed)
    notes = []
    for _ in range(round(duration_s / 0.2)):
        frequency_hz, amplitude = rng.uniform(200, 1000), rng.uniform(0.1, 0.4)
        tones = ((frequency_hz, amplitude), (2.7 * frequency_hz, amplitude / 2))
        notes.append(sum(signals.sine(0.2, frequency_hz=f, amplitude=a, sample_rate=RATE)[0] for f, a in tones))
    return np.concatenate(notes) + signals.noise(duration_s, amplitude=0.02, sample_rate=RATE, seed=seed)[0]


def reencoded(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Through Opus at 48 kHz and back, as a video site would."""
    data = signals.webm(resample(samples, RATE, 48_000)[None], sample_rate=48_000)
    again = to_mono(decode(data, "copy").waveform)
    return to_int16(resample(again, 48_000, RATE))[: samples.size]


@pytest.mark.parametrize("seed", range(4))
def test_a_reencoded_copy_sounds_alike(seed: int) -> None:
    assert sounds_alike(to_int16(music(seed)), reencoded(music(seed)))


@pytest.mark.parametrize("seed", range(4))
def test_other_audio_does_not(seed: int) -> None:
    assert not sounds_alike(to_int16(music(seed)), to_int16(music(seed + 10)))


def test_half_of_a_clip_is_not_the_clip() -> None:
    samples = to_int16(music(0))

    assert not sounds_alike(samples, samples[: samples.size // 2])


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    """Three clips; in the second version the first is a copy and the second other audio."""
    for name, first, second in (
        ("a", to_int16(music(0)), to_int16(music(1))),
        ("b", reencoded(music(0)), to_int16(music(2))),
    ):
        clips = {"0": first, "1": second, "2": to_int16(music(3))}
        examples = [Example(f"fixture/train/{key}@0", "train", pcm, {"cello": 1}) for key, pcm in clips.items()]
        write_dataset(tmp_path / name, examples)
    return tmp_path / "a", tmp_path / "b"


def test_only_the_clips_asked_for_are_judged(versions: tuple[Path, Path]) -> None:
    ear = listener(*map(read_manifest, versions), 10)

    assert ear is not None
    assert ear(frozenset({"fixture/train/0@0", "fixture/train/1@0"})) == {
        "fixture/train/0@0": True, "fixture/train/1@0": False
    }  # fmt: skip


def test_no_more_clips_are_judged_than_allowed(versions: tuple[Path, Path]) -> None:
    ear = listener(*map(read_manifest, versions), 1)

    assert ear is not None
    assert ear(frozenset({"fixture/train/1@0", "fixture/train/0@0"})) == {"fixture/train/0@0": True}


def test_without_the_shards_nothing_is_judged(versions: tuple[Path, Path]) -> None:
    a, b = map(read_manifest, versions)
    (b.folder / b.shards()[0].path).unlink()

    assert listener(a, b, 10) is None


def test_samples_come_as_they_are_stored(versions: tuple[Path, Path]) -> None:
    ((clip_id, samples),) = stored_samples(read_manifest(versions[0]), {"fixture/train/2@0"})

    assert clip_id == "fixture/train/2@0"
    assert np.array_equal(samples, to_int16(music(3)))


@pytest.mark.slow
def test_a_rebuild_from_a_mirror_that_lost_a_video_names_the_clip_and_why(
    sample_build: Path, sample_mirror: Path, tmp_path: Path, capsys
) -> None:
    from conftest import built
    from mirrors import copy_mirror

    from tutti.pipelines.diff.__main__ import main

    rows = read_manifest(sample_build).clip_rows()
    gone = next(row for row in rows if row["source"] == "audioset" and row["status"] == "kept")
    mirror = copy_mirror(sample_mirror, tmp_path / "mirror")
    (video,) = (mirror / "www.youtube.com/watch").glob(f"{gone['recording']}.*")
    name = video.relative_to(mirror).as_posix()
    video.unlink()
    sums = mirror / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines(keepends=True) if not line.endswith(f"  {name}\n")]
    sums.unlink()
    sums.write_text("".join(lines))
    built(
        "--dataset", "ultimate", "--mirror", str(mirror), "--embedder", "none",
        "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip

    assert main([str(sample_build), str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["id"], one["reason"]) for one in found["gone"]] == [(gone["id"], "not_in_mirror")]
    assert (found["added"], found["changed"], found["relabelled"]) == ([], [], [])
