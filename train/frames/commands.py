"""What `train.run` and `train.evaluate` do where recipe or run are of the frame-level system."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import torch

from datasets.manifest import read_manifest
from train.frames.evaluate import evaluate_frames
from train.frames.recipe import load_frames_recipe
from train.frames.run import frames_table, train_frames, train_frames_seeds
from train.frames.saved import load_frames_run


def run_frames(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Train, print the summary."""
    recipe = load_frames_recipe(options.recipe, overrides, tiny=options.tiny)
    how: dict[str, Any] = {"output": options.output, "restart": options.restart}
    how["checkpoint_steps"] = options.checkpoint_steps
    manifest = read_manifest(options.data)
    if options.seeds is None:
        summary = train_frames(recipe, manifest, **how)
    else:
        summary = train_frames_seeds(recipe, manifest, options.seeds, **how)
    print(json.dumps(summary))
    return 0


def score_frames(options: argparse.Namespace, device: torch.device) -> int:
    """Score a run on a split, print the figures."""
    result = evaluate_frames(load_frames_run(options.run, device), read_manifest(options.data), options.split)
    print(frames_table(result, options.split), file=sys.stderr)
    print(json.dumps({"run": str(options.run), **result}))
    return 0
