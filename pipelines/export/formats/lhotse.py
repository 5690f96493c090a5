"""lhotse: one recording and one supervision per clip, and the audio beside them.

Paths are relative to the export, so that it can be moved: `with_path_prefix` completes them. What is known of
a clip stands in `custom` of its supervision, in the manifest's words.
"""

import contextlib
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tutti.datasets.files import atomic_file, write_file
from tutti.datasets.manifest import canonical_json
from tutti.pipelines.export.selection import Row, Selection, audio_path, facts_of

USAGE = """\
from lhotse import CutSet, RecordingSet, SupervisionSet

recordings = RecordingSet.from_file("FOLDER/recordings_SPLIT.jsonl.gz").with_path_prefix("FOLDER")
supervisions = SupervisionSet.from_file("FOLDER/supervisions_SPLIT.jsonl.gz")
for cut in CutSet.from_manifests(recordings=recordings, supervisions=supervisions):
    cut.load_audio(), cut.supervisions[0].custom["labels"]
"""

_GZIP_LEVEL = 6  # gzip's own default


def write(selection: Selection, folder: Path) -> None:
    """Write `recordings_<split>.jsonl.gz`, `supervisions_<split>.jsonl.gz` and `audio/`."""
    instruments = selection.manifest.instruments
    for split in selection.splits:
        with (
            json_lines(folder / f"recordings_{split}.jsonl.gz") as recordings,
            json_lines(folder / f"supervisions_{split}.jsonl.gz") as supervisions,
        ):
            for row in selection.rows(split):
                write_file(folder / audio_path(row), row["audio"]["bytes"], durable=False)
                recordings.write(canonical_json(recording_of(row)) + "\n")
                supervisions.write(canonical_json(supervision_of(row, instruments)) + "\n")


def recording_of(row: Row) -> dict[str, Any]:
    """Describe a clip's audio file as Lhotse's recording."""
    return {
        "id": row["id"],
        "sources": [{"type": "file", "channels": [0], "source": audio_path(row)}],
        "sampling_rate": row["sample_rate"],
        "num_samples": row["num_samples"],
        "duration": row["num_samples"] / row["sample_rate"],
        "channel_ids": [0],
    }


def supervision_of(row: Row, instruments: list[str]) -> dict[str, Any]:
    """Describe a clip's labels as Lhotse's supervision; `start` counts from the clip's own begin."""
    facts = facts_of(row, instruments)
    del facts["id"]
    return {
        "id": row["id"],
        "recording_id": row["id"],
        "start": 0.0,
        "duration": row["num_samples"] / row["sample_rate"],
        "channel": 0,
        "custom": facts,
    }


@contextlib.contextmanager
def json_lines(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open a gzip file to write text to; its header holds neither name nor time."""
    with (
        atomic_file(path, durable=False) as stream,
        gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=stream, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
    ):
        yield text
