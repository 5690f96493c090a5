"""Name the instruments in audio files.

    python -m train.predict --run RUN song.wav other.flac
    python -m train.predict --run RUN --json song.mp3

Any file that the build's decoders read. Mono, 16 kHz, -12 LUFS, as in training; every file is
heard in consecutive chunks. stdout: per file the instruments at or above the run's thresholds with
their probabilities, or with --json everything, per chunk too. A file that cannot be read is named
on stderr, the others are still predicted, and the exit code is 2 (missing) or 3 (undecodable).
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datasets import audio
from datasets.errors import IntegrityError, TuttiError, UsageError
from train.cli import Parser, run_command
from train.data import LogMelSplit
from train.evaluate import default_device, make_front_end
from train.features import LogMel
from train.inference import chunk_logits, pool_chunks, probabilities
from train.recipe import TrainRecipe
from train.report import rounded
from train.saved import SavedRun, load_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("train.predict", __doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run folder of train.run")
    parser.add_argument("--json", action="store_true", help="one JSON object with all probabilities")
    parser.add_argument("audio", type=Path, nargs="+", metavar="AUDIO")
    options = parser.parse(arguments)
    run = load_run(options.run, default_device())
    front_end = make_front_end(run.recipe).to(run.tagger.mean.device)
    files: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    exit_code = 0
    for path in options.audio:
        try:
            files.append(predict_file(path, run, front_end))
        except TuttiError as error:
            print(f"error: {error}", file=sys.stderr)
            errors.append({"path": str(path), "error": str(error)})
            exit_code = max(exit_code, error.exit_code)
        else:
            if not options.json:
                print(as_text(files[-1]), flush=True)
    if options.json:
        print(json.dumps({"run": str(options.run), "files": files, "errors": errors}, ensure_ascii=False))
    return exit_code


def predict_file(path: Path, run: SavedRun, front_end: LogMel) -> dict[str, Any]:
    """Instruments of one file.

    Raises:
        UsageError: no such file.
        IntegrityError: it is no audio that the decoders read.
    """
    mono = load_mono(path, run.recipe)
    window_frames = run.recipe.window_frames
    split = _one_clip(mono, front_end, len(run.data.instruments))
    logits, clips = chunk_logits(run.tagger, split, window_frames)
    chunk_probabilities = probabilities(logits)
    clip_probability = pool_chunks(chunk_probabilities, clips, run.recipe.pooling)[0]
    names = run.data.instruments
    present = [n for n in np.argsort(-clip_probability, kind="stable") if clip_probability[n] >= run.thresholds[n]]
    sample_rate = run.recipe.features.sample_rate
    chunk_s = window_frames * run.recipe.features.hop_length / sample_rate
    duration_s = len(mono) / sample_rate
    result: dict[str, Any] = rounded(
        {
            "path": str(path),
            "duration_s": duration_s,
            "instruments": [{"name": names[n], "probability": float(clip_probability[n])} for n in present],
            "probabilities": _named(names, clip_probability),
            "chunks": [
                {
                    "start_s": index * chunk_s,
                    "end_s": min((index + 1) * chunk_s, duration_s),
                    "probabilities": _named(names, row),
                }
                for index, row in enumerate(chunk_probabilities)
            ],
        }
    )
    return result


def load_mono(path: Path, recipe: TrainRecipe) -> audio.Mono:
    """Decode a file to what training hears: mono, the recipe's sample rate and loudness; float32.

    Unlike the build's 16-bit audio it may exceed 1: nothing is clipped.

    Raises:
        UsageError: no such file.
        IntegrityError: it is no audio that the decoders read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give audio files") from error
    try:
        decoded = audio.decode(data, str(path))
    except audio.DecodeError as error:
        raise IntegrityError(f"{error}; not an audio file, or damaged") from error
    sample_rate = recipe.features.sample_rate
    mono = audio.resample(audio.to_mono(decoded.waveform), decoded.sample_rate, sample_rate)
    if not mono.size:
        raise IntegrityError(f"{path}: too short to hold a sample at {sample_rate} Hz")
    gain_db = audio.loudness_gain_db(
        audio.measure_loudness(mono, sample_rate),
        None,  # no true-peak guard: in float nothing clips
        target_lufs=recipe.target_lufs,
        max_true_peak_dbtp=0.0,
        max_gain_db=recipe.max_gain_db,
    )
    return audio.apply_gain(mono, gain_db)


def _one_clip(mono: audio.Mono, front_end: LogMel, num_classes: int) -> LogMelSplit:
    """A split of one clip without labels; stored as training stores it."""
    device = front_end.window.device
    with torch.inference_mode():
        frames = front_end(torch.from_numpy(mono).to(device)[None])[0].half()
    return LogMelSplit(
        frames,
        starts=torch.zeros(1, dtype=torch.int64, device=device),
        lengths=torch.tensor([len(frames)], device=device),
        presence=torch.full((1, num_classes), -1, dtype=torch.int8, device=device),
    )


def _named(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def as_text(result: dict[str, Any]) -> str:
    """A file's instruments, most probable first."""
    lines = [f"{result['path']}  ({result['duration_s']:.1f} s)"]
    lines += [f"    {item['name']:20}{item['probability']:.2f}" for item in result["instruments"]]
    if not result["instruments"]:
        name, probability = max(result["probabilities"].items(), key=lambda item: item[1])
        lines.append(f"    none above its threshold; nearest: {name} {probability:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
