"""Share among the commands of training: the flag of decoded splits, the folder that it means, processor threads."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tutti.datasets.errors import UsageError
from tutti.datasets.files import default_cache_folder
from tutti.train.recipe import Recipe, with_override
from tutti.train.run_recipe import RunRecipe


def add_hot_copy(parser: argparse.ArgumentParser) -> None:
    """Add the flag for the folder of decoded splits."""
    parser.add_argument(
        "--hot-copy", metavar="DIR|off", help="decoded splits for the next run (default: in the cache; off: none)"
    )


def hot_copy_folder(given: str | None) -> Path | None:
    """Choose the folder of decoded splits: the flag's, or the cache where it can be written; None: neither."""
    if given is not None:
        return None if given == "off" else Path(given)
    try:
        folder = default_cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except UsageError:  # training does without; who builds is told that this is no folder
        folder, writable = Path(os.environ.get("TUTTI_CACHE_DIR", "~")), False
    except OSError:
        writable = False
    if not writable:
        print(f"{folder}: cannot be written, so audio is decoded anew in every run (--hot-copy DIR)", file=sys.stderr)
    return folder if writable else None


@contextmanager
def processor_threads(recipe: RunRecipe) -> Iterator[None]:
    """Compute with as many threads as the recipe asks for, within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(recipe.compute.threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_weights(recipe: Recipe, weights: str | None) -> Recipe:
    """Set the backbone that a recipe begins with, as `--weights` says; the same recipe where it says nothing.

    Raises:
        UsageError: the recipe's model begins with none.
    """
    if not weights:
        return recipe
    if not hasattr(recipe.model_config, "weights"):
        raise UsageError(f"--weights: the model of recipe {recipe.name} begins with none; leave it out")
    return with_override(recipe, f"model_config.weights={weights}")
