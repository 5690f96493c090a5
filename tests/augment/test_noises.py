"""Recordings for background noise: folders of any depth, and datasets."""

import logging
from pathlib import Path

import pytest
import signals
import soundfile
import torch

from tutti.augment.noises import read_noises
from tutti.datasets.errors import UsageError

RATE = 16_000


def write(path: Path, frequency_hz: float = 1_000, rate: int = RATE, duration_s: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signals.sine(duration_s, frequency_hz=frequency_hz, sample_rate=rate)[0], rate)


def test_noises_are_read_from_a_folder_at_the_rate_of_the_clips(tmp_path: Path) -> None:
    write(tmp_path / "b.wav", rate=44_100)
    write(tmp_path / "a.flac")
    first, second = read_noises(tmp_path, RATE)
    assert len(first) == len(second) == 8_000
    assert torch.allclose(first[1_000:7_000], second[1_000:7_000], atol=1e-3)


def test_nested_folders_are_read_and_all_that_is_no_audio_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "audio" / "1-100032-A-0.wav", duration_s=0.5)
    write(tmp_path / "audio" / "deep" / "er" / "rain.ogg", duration_s=1.0)
    for name in ("README.md", "meta/esc50.csv", ".git/x.wav", "audio/.DS_Store", "audio/._1-100032-A-0.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no audio")
    (tmp_path / "audio" / "broken.wav").write_bytes(b"RIFF, but not for long")
    (tmp_path / "audio" / "nowhere.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "circle").symlink_to(tmp_path)
    with caplog.at_level(logging.WARNING):
        noises = read_noises(tmp_path, RATE)
    assert [len(noise) for noise in noises] == [8_000, 16_000]
    assert [record.getMessage().partition(":")[2][:33] for record in caplog.records] == [
        " audio/broken.wav is passed over: "[:33]
    ]


def test_a_folder_without_noises_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(UsageError, match="no noises; put audio files there"):
        read_noises(tmp_path, RATE)
    with pytest.raises(UsageError, match="is no folder; pass one with audio files"):
        read_noises(tmp_path / "gone", RATE)
