"""Hugging Face: Parquet shards and a dataset card that `load_dataset(folder)` follows."""

from pathlib import Path

from tutti.datasets.files import write_file
from tutti.pipelines.export.card import dataset_card
from tutti.pipelines.export.selection import Selection
from tutti.pipelines.export.shards import write_shards

USAGE = """\
from tutti.datasets import load_dataset

for clip in load_dataset("FOLDER", split="SPLIT"):
    clip["audio"], clip["presence"], clip["license"]
"""


def write(selection: Selection, folder: Path) -> None:
    """Write shards below `data/`, and README.md with the card's front matter."""
    shards = write_shards(selection, folder)
    card = dataset_card(selection.manifest.content, selection.counts, shards, usage=USAGE)
    write_file(folder / "README.md", card.encode(), durable=False)
