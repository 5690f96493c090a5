"""Name the instruments in audio files, and when they play.

    python -m train.predict --run RUN song.wav folder/of/songs
    python -m train.predict --run RUN --json song.mp3
    python -m train.predict --run RUN --csv timeline.csv --plot pictures folder

Any file that the build's decoders read; of a folder, all files below it that are named as audio.
Mono, 16 kHz, -12 LUFS, as in training; every file is heard in consecutive chunks. stdout: per file
the instruments at or above the run's thresholds with their probabilities and times, or with --json
everything, per chunk too. --csv writes a row per file, chunk and instrument; --plot draws every file's
instruments over time, song.wav as song.png (a second song.* as song-2.png). A run of the frame-level
system hears notes: --plot then leaves a piano roll and a MIDI file of each. A file that cannot be read
is named on stderr, the others are still predicted, and the exit code is 2 (missing) or 3 (undecodable).
What an earlier prediction wrote is replaced; a file of anybody else's is not, and nothing is predicted.
"""

import argparse
import csv
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datasets import audio
from datasets.audio_files import AUDIO_SUFFIXES, is_audio_name
from datasets.command import Parser, run_command
from datasets.csv_cells import safe_row
from datasets.errors import TuttiError, UsageError
from datasets.files import write_file
from datasets.scores.score import is_our_midi
from datasets.targets import IsOurs, check_targets, is_our_picture
from train.clips import Clips
from train.evaluate import default_device
from train.frames.predict import frames_text, predict_frames
from train.frames.saved import is_frames_run, load_frames_run
from train.front_end import evaluation_unit, units_per_s
from train.inference import chunk_logits, pool_logits, probabilities, processor_threads
from train.model import input_of
from train.reading.mono import load_mono
from train.saved import SavedRun, load_run
from train.scoring.report import rounded

_COLUMNS = ("path", "start_s", "end_s", "instrument", "probability", "present")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("python -m train.predict", __doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run folder of train.run")
    parser.add_argument("--json", action="store_true", help="one JSON object with all probabilities")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the time line as a table")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="also draw the time line of every file")
    parser.add_argument("audio", type=Path, nargs="+", metavar="AUDIO", help="files and folders")
    options = parser.parse_args(arguments)
    hears_notes = is_frames_run(options.run)
    check_targets(_targets(options, hears_notes), "--csv or --plot")
    if hears_notes:
        return _notes(options)
    run = load_run(options.run, default_device())
    if input_of(run.recipe.model) == "vggish":
        raise UsageError(
            f"{options.run}: its model hears the VGGish embeddings that OpenMIC ships, and there is no VGGish here to "
            "make them of your audio (its weights are published for TensorFlow only); train a recipe that hears audio, "
            "such as logmel_cnn or lumen_convnext_fluffy, on the same data, or score this run on OpenMIC's clips with "
            "train.evaluate"
        )
    with processor_threads(run.recipe):
        files, exit_code = _each_file(options, lambda path: predict_file(path, run), as_text)
    if options.csv is not None:
        write_file(options.csv, as_csv(files, run).encode())
    if options.plot is not None:
        draw(files, run, options.plot)
    return exit_code


def _targets(options: argparse.Namespace, hears_notes: bool) -> dict[Path, IsOurs]:
    """What may be written, and how a file of an earlier prediction is told."""
    header = f"{','.join(_COLUMNS)}\n".encode()
    targets: dict[Path, IsOurs] = {} if options.csv is None else {options.csv: lambda head: head.startswith(header)}
    if options.plot is not None:
        names: list[str] = []
        for path in itertools.chain.from_iterable(_found(given) for given in options.audio):
            name = next_name(path, names)
            targets[options.plot / f"{name}.png"] = is_our_picture
            if hears_notes:
                targets[options.plot / f"{name}.mid"] = is_our_midi
    return targets


def _found(given: Path) -> list[Path]:
    try:
        return audio_files(given)
    except TuttiError:  # told where it is to be heard
        return []


def _notes(options: argparse.Namespace) -> int:
    """The notes of every file, by a run of the frame-level system."""
    if options.csv is not None:
        raise UsageError(f"{options.run}: hears notes; --plot DIR writes them as MIDI and piano roll, --json as text")
    run = load_frames_run(options.run, default_device())
    names: list[str] = []

    def hear(path: Path) -> dict[str, Any]:
        return predict_frames(run, path, output=options.plot, name=next_name(path, names))

    _, exit_code = _each_file(options, hear, frames_text)
    return exit_code


def next_name(path: Path, names: list[str]) -> str:
    """What a file's pictures are called: its own name, numbered where it is taken; added to the names."""
    others = (f"{path.stem}-{number}" for number in itertools.count(2))
    names.append(next(name for name in itertools.chain([path.stem], others) if name not in names))
    return names[-1]


def _each_file(
    options: argparse.Namespace, predict: Callable[[Path], dict[str, Any]], text: Callable[[dict[str, Any]], str]
) -> tuple[list[dict[str, Any]], int]:
    """Results of all files that can be read, told as they come, and the exit code."""
    files: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    exit_code = 0
    for given in options.audio:
        try:
            found = audio_files(given)
        except TuttiError as error:
            found = []
            exit_code = max(exit_code, _told(error, given, errors))
        for path in found:
            try:
                files.append(predict(path))
            except TuttiError as error:
                exit_code = max(exit_code, _told(error, path, errors))
            else:
                if not options.json:
                    print(text(files[-1]), flush=True)
    if options.json:
        print(json.dumps({"run": str(options.run), "files": files, "errors": errors}))
    return files, exit_code


def _told(error: TuttiError, path: Path, errors: list[dict[str, str]]) -> int:
    print(f"error: {error}", file=sys.stderr)
    errors.append({"path": str(path), "error": str(error)})
    return error.exit_code


def audio_files(path: Path) -> list[Path]:
    """The file itself; or of a folder, all files below it that are named as audio, sorted.

    Raises:
        UsageError: a folder without any.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if is_audio_name(p) and p.is_file())
    if not found:
        raise UsageError(
            f"{path}: no audio file below it; give files, or a folder of {', '.join(sorted(AUDIO_SUFFIXES))}"
        )
    return found


def predict_file(path: Path, run: SavedRun) -> dict[str, Any]:
    """Instruments of one file.

    Raises:
        UsageError: no such file.
        IntegrityError: it is no audio that the decoders read.
    """
    mono = load_mono(path, run.recipe)
    clip = _one_clip(mono, run)
    logits, plan = chunk_logits(run.tagger, clip, run.recipe)
    chunk_probabilities = probabilities(logits)
    clip_probability = pool_logits(logits, plan.clips, run.recipe.pooling)[0]
    names = run.data.instruments
    present = [n for n in np.argsort(-clip_probability, kind="stable") if clip_probability[n] >= run.thresholds[n]]
    duration_s = len(mono) / run.recipe.sample_rate
    spans = [(start_s, min(end_s, duration_s)) for start_s, end_s in plan.spans_s(units_per_s(clip.unit, run.recipe))]
    heard_KC = chunk_probabilities >= np.asarray(run.thresholds)
    result: dict[str, Any] = rounded(
        {
            "path": str(path),
            "duration_s": duration_s,
            "instruments": [{"name": names[n], "probability": float(clip_probability[n])} for n in present],
            "probabilities": _named(names, clip_probability),
            "timeline": {name: joined(spans, heard_KC[:, n]) for n, name in enumerate(names) if heard_KC[:, n].any()},
            "chunks": [
                {"start_s": start_s, "end_s": end_s, "probabilities": _named(names, row)}
                for (start_s, end_s), row in zip(spans, chunk_probabilities, strict=True)
            ],
        }
    )
    return result


def joined(spans: Sequence[tuple[float, float]], heard_K: NDArray[np.bool_]) -> list[list[float]]:
    """From when to when an instrument is heard: chunks above its threshold that touch become one stretch."""
    stretches: list[list[float]] = []
    for (start_s, end_s), heard in zip(spans, heard_K, strict=True):
        if heard and stretches and start_s <= stretches[-1][1]:
            stretches[-1][1] = end_s
        elif heard:
            stretches.append([start_s, end_s])
    return stretches


def _one_clip(mono: audio.Mono, run: SavedRun) -> Clips:
    """A clip without labels; frames are stored as training stores them."""
    device, unit = run.tagger.device, evaluation_unit(run.recipe)
    values = torch.from_numpy(mono).to(device)
    if unit == "frames":
        with torch.inference_mode():
            values = run.tagger.hear(values[None])[0].half()
    presence = torch.full((1, len(run.data.instruments)), -1, dtype=torch.int8, device=device)
    lengths = torch.tensor([len(values)], device=device)
    fill = run.recipe.features.silence if unit == "frames" else 0.0
    return Clips(values, torch.zeros_like(lengths), lengths, presence, ("",), unit, fill=fill)


def _named(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def as_text(result: dict[str, Any]) -> str:
    """A file's instruments, most probable first."""
    lines = [f"{result['path']}  ({result['duration_s']:.1f} s)"]
    for item in result["instruments"]:
        times = ", ".join(f"{start:.1f}-{end:.1f} s" for start, end in result["timeline"].get(item["name"], []))
        lines.append(f"    {item['name']:20}{item['probability']:.2f}  {times}".rstrip())
    if not result["instruments"]:
        name, probability = max(result["probabilities"].items(), key=lambda item: item[1])
        lines.append(f"    none above its threshold; nearest: {name} {probability:.2f}")
    return "\n".join(lines)


def draw(files: Sequence[dict[str, Any]], run: SavedRun, folder: Path) -> list[Path]:
    """A picture of every file's time line; names come from the files', in their order."""
    from train.scoring.pictures import activity, save  # matplotlib takes a second to load

    names: list[str] = []
    for file in files:
        name = next_name(Path(file["path"]), names)
        spans = [(chunk["start_s"], chunk["end_s"]) for chunk in file["chunks"]]
        rows = [list(chunk["probabilities"].values()) for chunk in file["chunks"]]  # in the order of the classes
        title = Path(file["path"]).name
        figure = activity(spans, np.array(rows), np.array(run.thresholds), run.data.instruments, title)
        save(figure, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in names]


def as_csv(files: Sequence[dict[str, Any]], run: SavedRun) -> str:
    """The time line of all files: a row per file, chunk and instrument."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(
        safe_row(row) for row in _rows(files, dict(zip(run.data.instruments, run.thresholds, strict=True)))
    )
    return text.getvalue()


def _rows(files: Sequence[dict[str, Any]], thresholds: dict[str, float]) -> Iterator[tuple[Any, ...]]:
    for file in files:
        for chunk in file["chunks"]:
            for name, probability in chunk["probabilities"].items():
                present = int(probability >= thresholds[name])
                yield file["path"], chunk["start_s"], chunk["end_s"], name, probability, present


if __name__ == "__main__":
    sys.exit(main())
