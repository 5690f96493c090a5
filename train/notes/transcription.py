"""The notes of one audio file: by instrument, as JSON, text, MIDI and a picture.

Mono, 16 kHz, -12 LUFS, as in training; heard in consecutive windows of the recipe's length.
Shapes: B windows, W frames of a window, Q bins, F frames of the file, I instruments, P pitches.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutti.datasets.audibility import Downmix, finding_text
from tutti.datasets.audio import Mono
from tutti.datasets.files import write_file
from tutti.datasets.record import Note, Seconds
from tutti.datasets.scores.score import Score, write_midi
from tutti.train.chunking import Chunking, plan_chunks
from tutti.train.features.cqt import Cqt
from tutti.train.notes.decode import decode, joined, runs
from tutti.train.notes.losses import RollLogits
from tutti.train.notes.recipe import NotesRecipe
from tutti.train.notes.scores import Thresholds
from tutti.train.notes.unet import NotesTagger
from tutti.train.reading.mono import load_sound
from tutti.train.scoring.report import rounded


def transcribe(
    path: Path,
    tagger: NotesTagger,
    recipe: NotesRecipe,
    thresholds: Thresholds,
    instruments: Sequence[str],
    base: Path | None = None,
    downmix: Downmix = "mean",
) -> dict[str, Any]:
    """Write down the notes of one file.

    Args:
        path: of the file.
        tagger: that hears it.
        recipe: of the tagger.
        thresholds: from which probability on something sounds.
        instruments: names of the classes.
        base: BASE.mid and BASE.png are written, too; None: nothing is.
        downmix: how channels become one.

    Returns:
        `notes` by onset; `timeline`: when each instrument is heard; `files` that were written.

    Raises:
        UsageError: no such file.
        IntegrityError: it is no audio that the decoders read.
    """
    sound = load_sound(path, recipe, downmix)
    duration_s = len(sound.mono) / recipe.sample_rate
    notes: tuple[Note, ...] = ()
    timeline: dict[str, list[list[Seconds]]] = {}
    if sound.finding is None:
        notes, timeline = _hear(sound.mono, tagger, recipe, thresholds, instruments)
    files = [] if base is None else write_outputs(base, path.name, notes, timeline, duration_s, instruments)
    result: dict[str, Any] = rounded(
        {
            "path": str(path),
            "duration_s": duration_s,
            "nothing_heard": None if sound.finding is None else asdict(sound.finding),
            "instruments": sorted(timeline, key=lambda name: -sum(end - start for start, end in timeline[name])),
            "timeline": timeline,
            "notes": [asdict(note) for note in notes],
            "files": files,
        }
    )
    return result


def _hear(
    mono: Mono, tagger: NotesTagger, recipe: NotesRecipe, thresholds: Thresholds, instruments: Sequence[str]
) -> tuple[tuple[Note, ...], dict[str, list[list[Seconds]]]]:
    """Find the notes of a waveform, and when each instrument is heard."""
    duration_s, hop_s = len(mono) / recipe.sample_rate, recipe.cqt.hop_s
    rolls = compute_rolls(tagger, recipe, mono)
    found = decode(
        rolls.roll[0].cpu().numpy(), instruments, threshold=thresholds.roll, hop_s=hop_s, config=recipe.decode
    )
    notes = tuple(
        Note(n.onset_s, min(n.offset_s, duration_s), n.pitch, n.program, n.instrument, n.velocity) for n in found
    )
    sounding_IF = rolls.instrument[0].cpu().numpy() >= np.asarray(thresholds.instrument)[:, None]
    return notes, timeline_of(sounding_IF, instruments, recipe, duration_s)


def probabilities(tagger: NotesTagger, cqt_BWQ: Tensor) -> RollLogits:
    """Compute the probability of every cell; the tagger is in eval mode."""
    with torch.inference_mode():
        return RollLogits(*(logits.sigmoid() for logits in tagger(cqt_BWQ)))


def compute_rolls(tagger: NotesTagger, recipe: NotesRecipe, mono: Mono) -> RollLogits:
    """Compute probabilities (1, ..., F) of all frames of a waveform."""
    with torch.inference_mode():
        # Rounded as in training, where frames are stored in 16 bits.
        waveform_1T = torch.from_numpy(mono).to(tagger.device)[None]
        frames_FQ = Cqt(recipe.cqt).to(tagger.device)(waveform_1T)[0].half().float()
    length = recipe.window_frames
    plan = plan_chunks([len(frames_FQ)], Chunking(length, last="zero"))
    missing = len(plan) * length - len(frames_FQ)
    padded = torch.nn.functional.pad(frames_FQ, (0, 0, 0, missing), value=recipe.frames.silence)
    tagger.eval()
    parts = [
        probabilities(tagger, window[None]) for window in padded.reshape(len(plan), length, -1)
    ]  # one by one: a song needs no more memory than a window
    return RollLogits(*(torch.cat(part, dim=-1)[..., : len(frames_FQ)] for part in zip(*parts, strict=True)))


def timeline_of(
    sounding_IF: NDArray[np.bool_], instruments: Sequence[str], recipe: NotesRecipe, duration_s: Seconds
) -> dict[str, list[list[Seconds]]]:
    """Join frames to stretches [start, end] of each instrument that is heard, short rests included."""
    hop_s = recipe.cqt.hop_s
    max_gap = int(recipe.decode.max_rest_s / hop_s + 1e-9)
    lines: dict[str, list[list[Seconds]]] = {}
    for line, begin, end in zip(*(part.tolist() for part in joined(*runs(sounding_IF), max_gap=max_gap)), strict=True):
        stretch = [max(0.0, (begin - 0.5) * hop_s), min((end - 0.5) * hop_s, duration_s)]
        lines.setdefault(instruments[line], []).append(stretch)
    return lines


def write_outputs(
    base: Path,
    title: str,
    notes: tuple[Note, ...],
    timeline: dict[str, list[list[Seconds]]],
    duration_s: Seconds,
    instruments: Sequence[str],
) -> list[str]:
    """Write BASE.mid and BASE.png; answer their paths."""
    from tutti.train.notes.picture import piano_roll_png  # matplotlib takes a second to load

    written = {
        base.with_name(f"{base.name}.mid"): write_midi(Score(notes, duration_s)),
        base.with_name(f"{base.name}.png"): piano_roll_png(notes, timeline, duration_s, instruments, title=title),
    }
    for target, content in written.items():
        write_file(target, content)
    return [str(target) for target in written]


def as_text(result: dict[str, Any]) -> str:
    """Write a file's instruments, the one that is heard longest first, and when."""
    lines = [f"{result['path']}  ({result['duration_s']:.1f} s, {len(result['notes'])} notes)"]
    if (finding := result["nothing_heard"]) is not None:
        lines.append(f"    nothing to hear: {finding_text(finding)}")
    for name in result["instruments"]:
        times = ", ".join(f"{start:.1f}-{end:.1f} s" for start, end in result["timeline"][name])
        lines.append(f"    {name:20}{times}")
    return "\n".join(lines)
