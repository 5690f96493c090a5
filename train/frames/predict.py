"""What plays when in an audio file: notes by instrument, as JSON, MIDI and a picture.

    run = load_frames_run(folder, device)
    result = predict_frames(run, Path("song.mp3"), output=Path("predicted"))

Mono, 16 kHz, -12 LUFS, as in training; heard in consecutive windows of the recipe's length.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.audio import Mono
from datasets.files import write_file
from datasets.record import Note, Seconds
from datasets.scores.score import Score, write_midi
from train.chunking import Chunking, plan_chunks
from train.features.cqt import Cqt
from train.frames.data import silence
from train.frames.decode import decode, joined, runs
from train.frames.loop import probabilities
from train.frames.losses import FrameLogits
from train.frames.picture import piano_roll_png
from train.frames.saved import FramesRun
from train.reading.mono import load_mono
from train.scoring.report import rounded


def predict_frames(
    run: FramesRun, path: Path, *, output: Path | None = None, name: str | None = None
) -> dict[str, Any]:
    """Notes and instruments of one file; with `output` also NAME.mid and NAME.png there, by default the file's name.

    Returns:
        `notes` by onset; `timeline`: when each instrument is heard; `files` that were written.

    Raises:
        UsageError: no such file.
        IntegrityError: it is no audio that the decoders read.
    """
    mono = load_mono(path, run.recipe)
    duration_s = len(mono) / run.recipe.sample_rate
    heard = listen(run, mono)
    notes = notes_of(run, heard.roll[0].cpu().numpy(), duration_s)
    timeline = timeline_of(run, heard.instrument[0].cpu().numpy(), duration_s)
    files: list[str] = []
    if output is not None:
        base, title = output / (name or path.stem), path.name
        files = write_outputs(base, title, notes, timeline, duration_s, run.data.instruments)
    result: dict[str, Any] = rounded(
        {
            "path": str(path),
            "duration_s": duration_s,
            "instruments": sorted(timeline, key=lambda name: -sum(end - start for start, end in timeline[name])),
            "timeline": timeline,
            "notes": [asdict(note) for note in notes],
            "files": files,
        }
    )
    return result


def listen(run: FramesRun, mono: Mono) -> FrameLogits:
    """Probabilities (1, ..., F) of all frames of a waveform."""
    recipe, device = run.recipe, run.tagger.device
    front_end = Cqt(recipe.cqt).to(device)
    with torch.inference_mode():
        # Rounded as in training, where frames are stored in 16 bits.
        frames_FQ = front_end(torch.from_numpy(mono).to(device)[None])[0].half().float()
    length = recipe.window_frames
    plan = plan_chunks([len(frames_FQ)], Chunking(length, last="zero"))
    missing = len(plan) * length - len(frames_FQ)
    padded = torch.nn.functional.pad(frames_FQ, (0, 0, 0, missing), value=silence(recipe))
    parts = [
        probabilities(run.tagger, window[None], recipe) for window in padded.reshape(len(plan), length, -1)
    ]  # one by one: a song needs no more memory than a window

    def whole(tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors, dim=-1)[..., : len(frames_FQ)]

    return FrameLogits(*(whole([getattr(part, name) for part in parts]) for name in ("roll", "instrument", "pitch")))


def notes_of(run: FramesRun, probability_IPF: NDArray[np.floating], duration_s: Seconds) -> tuple[Note, ...]:
    """Notes of a pianoroll of probabilities; none ends after the file."""
    found = decode(
        probability_IPF,
        run.data.instruments,
        threshold=run.thresholds.roll,
        hop_s=run.recipe.cqt.hop_s,
        config=run.recipe.decode,
    )
    return tuple(
        Note(n.onset_s, min(n.offset_s, duration_s), n.pitch, n.program, n.instrument, n.velocity) for n in found
    )


def timeline_of(
    run: FramesRun, probability_IF: NDArray[np.floating], duration_s: Seconds
) -> dict[str, list[list[Seconds]]]:
    """From when to when each instrument is heard, short rests included; those that never are, are left out."""
    hop_s = run.recipe.cqt.hop_s
    max_gap = int(run.recipe.decode.max_rest_s / hop_s + 1e-9)
    heard_IF = probability_IF >= np.asarray(run.thresholds.instrument)[:, None]
    lines: dict[str, list[list[Seconds]]] = {}
    for line, begin, end in zip(*(part.tolist() for part in joined(*runs(heard_IF), max_gap=max_gap)), strict=True):
        stretch = [max(0.0, (begin - 0.5) * hop_s), min((end - 0.5) * hop_s, duration_s)]
        lines.setdefault(run.data.instruments[line], []).append(stretch)
    return lines


def write_outputs(
    base: Path,
    title: str,
    notes: tuple[Note, ...],
    timeline: dict[str, list[list[Seconds]]],
    duration_s: Seconds,
    instruments: tuple[str, ...],
) -> list[str]:
    """Write BASE.mid and BASE.png; answers their paths."""
    written = {
        base.with_name(f"{base.name}.mid"): write_midi(Score(notes, duration_s)),
        base.with_name(f"{base.name}.png"): piano_roll_png(notes, timeline, duration_s, instruments, title=title),
    }
    for target, content in written.items():
        write_file(target, content)
    return [str(target) for target in written]


def frames_text(result: dict[str, Any]) -> str:
    """A file's instruments, the one that is heard longest first, and when."""
    lines = [f"{result['path']}  ({result['duration_s']:.1f} s, {len(result['notes'])} notes)"]
    for name in result["instruments"]:
        times = ", ".join(f"{start:.1f}-{end:.1f} s" for start, end in result["timeline"][name])
        lines.append(f"    {name:20}{times}")
    return "\n".join(lines)
