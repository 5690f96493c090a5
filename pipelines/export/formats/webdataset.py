"""WebDataset: tar files of <key>.flac beside <key>.json, for streaming.

A tar holds neither times nor owners, and its members follow the ids, so equal clips are equal bytes.
"""

import io
import itertools
import tarfile
from pathlib import Path

from tutti.datasets.files import atomic_file
from tutti.datasets.manifest import canonical_json
from tutti.datasets.shard import audio_extension
from tutti.pipelines.export.selection import Row, Selection, facts_of, key_of

USAGE = """\
import glob, io, json
import soundfile, webdataset

for sample in webdataset.WebDataset(sorted(glob.glob("FOLDER/SPLIT-*.tar")), shardshuffle=False):
    facts = json.loads(sample["json"])  # presence: in the order of `instruments` in export.json
    samples, sample_rate = soundfile.read(io.BytesIO(sample["flac"]))
"""


def write(selection: Selection, folder: Path) -> None:
    """Write `<split>-000000.tar`, ...: as many clips each as a shard of the build."""
    instruments = selection.manifest.instruments
    for split in selection.splits:
        rows = selection.rows(split)
        for index in itertools.count():
            part = itertools.islice(rows, selection.rows_per_shard)
            first = next(part, None)
            if first is None:
                break
            with (
                atomic_file(folder / f"{split}-{index:06d}.tar", durable=False) as stream,
                tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
            ):
                for row in itertools.chain([first], part):
                    add_clip(tar, row, split, instruments)


def add_clip(tar: tarfile.TarFile, row: Row, split: str, instruments: list[str]) -> None:
    """Append the two files of a clip."""
    audio = row["audio"]["bytes"]
    facts = {
        **facts_of(row, instruments),
        "split": split,
        "presence": row["presence"],
        "sample_rate": row["sample_rate"],
        "num_samples": row["num_samples"],
    }
    add_file(tar, f"{key_of(row)}.{audio_extension(audio)}", audio)
    add_file(tar, f"{key_of(row)}.json", (canonical_json(facts) + "\n").encode())


def add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append one file; a fresh TarInfo has mtime 0, no owner, and mode 644."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
