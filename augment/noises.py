"""Recordings for background noise: of a folder, such as ESC-50's, or of a dataset that was built.

python -m train.run --set noises=ESC-50-master ...        any depth of folders; what is no audio is passed over
python -m pipelines.build --dataset esc50                 decoded and resampled once
python -m train.run --set noises=build/esc50 ...
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutti.datasets.audio import decode, resample, to_mono
from tutti.datasets.audio_files import is_audio_name
from tutti.datasets.decode_error import DecodeError
from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import read_manifest
from tutti.datasets.printable import printable

_log = logging.getLogger(__name__)


def read_noises(folder: Path, sample_rate: int) -> list[Tensor]:
    """Read every noise of a folder or dataset, in the order of paths or ids, mono, at a sample rate.

    Files that are no audio by their names are passed over, and so are, with a warning, those that no decoder reads.

    Raises:
        UsageError: there is no such folder, it holds no noise, or a file in it may not be read.
        IntegrityError: a dataset is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"noises={printable(str(folder))}: is no folder; pass one with audio files, such as ESC-50's")
    is_dataset = (folder / "current").exists() or (folder / "manifest" / "manifest.json").is_file()
    noises = list(_in_dataset(folder, sample_rate) if is_dataset else _in_folder(folder, sample_rate))
    if not noises:
        raise UsageError(
            f"{printable(str(folder))}: no noises; put audio files there, such as those of ESC-50, in any folder below"
        )
    return noises


def _in_folder(folder: Path, sample_rate: int) -> Iterator[Tensor]:
    for path in sorted(_audio_files(folder), key=lambda path: path.relative_to(folder).parts):
        name = printable(str(path.relative_to(folder)))
        try:
            one = decode(path.read_bytes(), name)
        except DecodeError as error:
            _log.warning("noises: %s is passed over: %s", name, error)
            continue
        except OSError as error:
            raise UsageError(f"noises: {name} cannot be read ({error.strerror}); correct its permissions") from error
        mono = resample(to_mono(one.waveform), one.sample_rate, sample_rate)
        if mono.size:
            yield torch.from_numpy(mono)


def _audio_files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):  # follows no links: they may lead in circles
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(root, name)
            if not name.startswith(".") and is_audio_name(name) and path.is_file():
                yield path


def _in_dataset(folder: Path, sample_rate: int) -> Iterator[Tensor]:
    """Yield the training clips of a dataset: those for evaluation are for evaluation."""
    from tutti.datasets.shard import read_shard  # Arrow, which who has a folder need not load
    from tutti.datasets.shard_audio import verified_audio

    for path in read_manifest(folder).shard_paths("train"):
        for row in read_shard(path, ["id", "audio", "sample_rate", "num_samples", "audio_sha256"]):
            rate, num_samples = row["sample_rate"], row["num_samples"]
            where = f"{path.name}: {row['id']}"
            samples = verified_audio(where, row["audio"]["bytes"], rate, num_samples, row["audio_sha256"])
            waveform = samples.astype(np.float32) / np.float32(32_768)
            yield torch.from_numpy(resample(waveform, rate, sample_rate))
