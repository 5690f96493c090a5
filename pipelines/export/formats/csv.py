"""CSV: labels.csv with a row per clip and a column per class, and the audio beside it.

The folder is one that `--dataset folder --data-from` reads: `path`, `group`, `split`, `license`, then the
classes with 1, 0 or nothing. Whatever else is known stands in clips.csv, by the same path: a column that is no
class would be one for that reader. Text that begins like a formula has an apostrophe in front (datasets/csv_cells.py).
"""

import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tutti.datasets.csv_cells import safe_row
from tutti.datasets.files import atomic_file, write_file
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.pipelines.export.selection import Row, Selection, audio_path, decimal

USAGE = """\
import csv

for row in csv.DictReader(open("FOLDER/labels.csv", encoding="utf-8", newline="")):
    row["path"], row["split"]  # and one column per class: 1 present, 0 absent, empty unknown
# Text that begins with = + - @ has an apostrophe in front, so that no spreadsheet calculates it.
"""

CELL = {PRESENT: "1", ABSENT: "0", UNKNOWN: ""}
PROVENANCE = (
    "path", "id", "source", "recording", "start_s", "end_s", "sample_rate", "num_samples", "quality",
    "loudness_lufs", "gain_db", "audio_sha256",
)  # fmt: skip


def write(selection: Selection, folder: Path) -> None:
    """Write labels.csv, clips.csv and `audio/`; rows by split, then by id."""
    instruments = selection.manifest.instruments
    with table(folder / "labels.csv") as labels, table(folder / "clips.csv") as clips:
        labels.writerow(safe_row(["path", "group", "split", "license", *instruments]))
        clips.writerow(PROVENANCE)
        for split in selection.splits:
            for row in selection.rows(split):
                write_file(folder / audio_path(row), row["audio"]["bytes"], durable=False)
                labels.writerow(safe_row(label_cells(row, split)))
                clips.writerow(safe_row(provenance_cells(row)))


def label_cells(row: Row, split: str) -> list[str]:
    """Format a line of labels.csv."""
    return [audio_path(row), row["group"], split, row["license"], *(CELL[value] for value in row["presence"])]


def provenance_cells(row: Row) -> list[Any]:
    """Format a line of clips.csv."""
    rounded = {name: decimal(row[name]) for name in ("quality", "loudness_lufs", "gain_db")}
    facts = {**row, **rounded, "path": audio_path(row)}
    return [facts[name] for name in PROVENANCE]


@contextlib.contextmanager
def table(path: Path) -> Iterator[Any]:
    """Open a CSV writer with LF ends of lines."""
    with (
        atomic_file(path, durable=False) as stream,
        io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True) as text,
    ):
        yield csv.writer(text, lineterminator="\n")
