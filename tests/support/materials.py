"""A dataset version as a run on the processor reads it, for the tests of training."""

from pathlib import Path
from typing import Any

import torch

from tutti.datasets.manifest import Manifest, read_manifest
from tutti.train.data import Data
from tutti.train.reading.shards import split_table
from tutti.train.reading.split import AudioSplit, read_table
from tutti.train.run_recipe import RunRecipe
from tutti.train.task import Material
from tutti.train.tasks.listing import task_for


def read_split(manifest: Manifest, split: str) -> AudioSplit:
    return read_table(split_table(manifest, split))


def data_of(folder: Path, hot_copies: Path | None = None) -> Data:
    return Data(read_manifest(folder), torch.device("cpu"), hot_copies)


def material_of(recipe: RunRecipe, folder: Path) -> Material[Any]:
    return task_for(recipe, data_of(folder)).load(data_of(folder))
