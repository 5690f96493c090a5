"""Score a frame-level run on a split of any dataset with notes.

report = evaluate_frames(load_frames_run(folder, device), manifest, "test")
"""

from typing import Any

from datasets.manifest import Manifest
from train.frames.data import load_frame_clips
from train.frames.loop import scored
from train.frames.saved import FramesRun


def evaluate_frames(run: FramesRun, manifest: Manifest, split: str) -> dict[str, Any]:
    """The report of a split at the run's thresholds, and which data it was.

    The data may have other classes than the run: instruments are found by name, and notes of others
    sound without counting for or against anyone but the instruments that are taken for them.

    Raises:
        UsageError: no such split, or no clip of it has notes.
        IntegrityError: the data are damaged.
    """
    instruments = run.data.instruments
    clips = load_frame_clips(manifest, split, run.recipe, instruments, run.tagger.device)
    report, _ = scored(run.tagger, clips, run.recipe, run.thresholds, instruments)
    return {"split": split, "version": manifest.version, "root_digest": manifest.root_digest, **report}
