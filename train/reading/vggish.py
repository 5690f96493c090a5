"""The VGGish embeddings that OpenMIC-2018 ships: `X` of `openmic-2018.npz`, read without unpickling anything.

    clips = read_openmic("openmic-2018/openmic-2018.npz", "openmic-2018/openmic-2018-aggregated-labels.csv")
    clips.features(["000046_3840", ...])          float32 (N, 10, 128) for train/models/bilstm_attention.py

The names of the rows are a pickle in that file and stay closed. Rows stand in the order of the sorted names, which
the labels prove: the file's own label matrix must equal the one that the CSV gives in this order.

Shapes: N clips, C classes, S seconds (10), D numbers per second (128).
"""

import csv
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.bounded import open_regular, read_bounded
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.settings import nearest
from tutti.datasets.sources.openmic2018 import INSTRUMENTS

NUM_SECONDS, NUM_FEATURES = 10, 128

_UNASKED = 0.5  # what Y_true holds where the crowd was not asked
# VGGish's postprocessor clips to [-2, 2] and stores 8 bits (Hershey et al. 2017, AudioSet's release).
_RANGE, _STEPS = 4.0, 255
_HEADER_BYTES = 1 << 20  # of an array in the archive, and of small ones
_LABELS_BYTES = 1 << 26  # of the label CSV; OpenMIC's has 2 MB
_DAMAGE = (ValueError, TypeError, LookupError, OSError, EOFError, ArithmeticError, MemoryError, RuntimeError)
_REDO = "unpack openmic-2018-v1.0.0.tgz again"


@dataclass(frozen=True)
class VggishClips:
    """Embeddings of clips by their upstream key."""

    keys: tuple[str, ...]  # sorted; "<FMA track>_<start in ms>"
    quantized: NDArray[np.uint8]  # (N, S, D)

    def features(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """Select embeddings (len(keys), S, D) of these clips, in [-2, 2].

        Raises:
            UsageError: a clip that OpenMIC does not have.
        """
        row_of = {key: row for row, key in enumerate(self.keys)}
        for key in keys:
            if key not in row_of:
                raise UsageError(f"{key}: no clip of OpenMIC-2018{nearest(key, self.keys)}")
        return dequantize(self.quantized[[row_of[key] for key in keys]])


def dequantize(quantized: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert 8 bits back to [-2, 2]."""
    return quantized.astype(np.float32) * np.float32(_RANGE / _STEPS) - np.float32(_RANGE / 2)


def read_openmic(npz: Path | str, labels_csv: Path | str) -> VggishClips:
    """Read the embeddings of all clips.

    Raises:
        UsageError: a file is not there.
        IntegrityError: a file is damaged, or the two do not belong together.
    """
    npz, labels_csv = Path(npz), Path(labels_csv)
    for path in (npz, labels_csv):
        if not path.is_file():
            raise UsageError(f"{path}: not there; unpack openmic-2018-v1.0.0.tgz and name the file in its folder")
    keys, relevance_NC = _relevances(labels_csv)
    try:
        with open_regular(npz) as stream:
            _check_size(stream, len(keys))
            with np.load(stream, allow_pickle=False) as arrays:
                embeddings, truth, mask = arrays["X"], arrays["Y_true"], arrays["Y_mask"]
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
        words = str(error).partition("\n")[0][:200] or type(error).__name__
        raise IntegrityError(f"{npz}: not OpenMIC's arrays ({words}); {_REDO}") from error
    if embeddings.shape != (len(keys), NUM_SECONDS, NUM_FEATURES) or not np.issubdtype(embeddings.dtype, np.integer):
        raise IntegrityError(
            f"{npz}: X is {embeddings.dtype} {embeddings.shape}, expected whole numbers of shape "
            f"({len(keys)}, {NUM_SECONDS}, {NUM_FEATURES}) for the clips of {labels_csv.name}; {_REDO}"
        )
    if embeddings.size and not (embeddings.min() >= 0 and embeddings.max() <= _STEPS):
        raise IntegrityError(f"{npz}: X lies in [{embeddings.min()}, {embeddings.max()}], expected 8 bits; {_REDO}")
    _check_order(npz, labels_csv, keys, relevance_NC, truth, mask)
    return VggishClips(keys, embeddings.astype(np.uint8))


def _check_size(stream: BinaryIO, num_clips: int) -> None:
    """Refuse arrays that are larger than those of so many clips, before any of them is unpacked.

    Raises:
        ValueError: as said.
        zipfile.BadZipFile: it is no archive.
    """
    most = _HEADER_BYTES + num_clips * NUM_SECONDS * NUM_FEATURES * 8  # whole numbers of 64 bits at most
    for member in zipfile.ZipFile(stream).infolist():
        if member.file_size > most:
            raise ValueError(
                f"{member.filename[:40]} has {member.file_size:,} bytes, at most {most:,} are of these clips"
            )
    stream.seek(0)


def _relevances(path: Path) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Read sorted keys, and relevances (N, C) with NaN where the crowd was not consulted."""
    answers: dict[str, dict[str, float]] = {}
    line = 1
    try:
        text = read_bounded(path, _LABELS_BYTES).decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        for row in rows:
            line = rows.line_num
            answers.setdefault(row["sample_key"], {})[row["instrument"]] = float(row["relevance"])
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise IntegrityError(f"{path}, line {line}: not an aggregated label ({error!r}); {_REDO}") from error
    keys = tuple(sorted(answers))
    relevance_NC = np.array([[answers[key].get(name, np.nan) for name in INSTRUMENTS] for key in keys], np.float64)
    return keys, relevance_NC.reshape(len(keys), len(INSTRUMENTS))


def _check_order(
    npz: Path,
    labels_csv: Path,
    keys: tuple[str, ...],
    relevance_NC: NDArray[np.float64],
    truth: NDArray[np.float64],
    mask: NDArray[np.bool_],
) -> None:
    if truth.shape != relevance_NC.shape or mask.shape != relevance_NC.shape:
        raise IntegrityError(f"{npz}: labels of shape {truth.shape}, {labels_csv.name}: {relevance_NC.shape}; {_REDO}")
    asked = ~np.isnan(relevance_NC)
    equal = (mask == asked) & np.isclose(truth, np.where(asked, relevance_NC, _UNASKED), rtol=0, atol=1e-6)
    if not equal.all():
        first = keys[int(np.flatnonzero(~equal.all(axis=1))[0])]
        raise IntegrityError(
            f"{npz}: its labels differ from {labels_csv.name}'s, first for {first}: its rows are in another order or "
            f"of another release; {_REDO}"
        )
