"""The instruments of one audio file over time, chunk by chunk: as JSON, text, a table and a picture.

Shapes: K chunks of the file, C classes.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tutti.datasets import audio
from tutti.datasets.audibility import Downmix, Finding, finding_text
from tutti.datasets.csv_cells import safe_row
from tutti.datasets.record import Seconds
from tutti.train.chunking import clip_probabilities, plan_chunks, probabilities
from tutti.train.clips import Clips
from tutti.train.front_end import evaluation_chunking, evaluation_unit, units_per_s
from tutti.train.reading.mono import Sound, load_sound
from tutti.train.scoring.report import rounded
from tutti.train.tagger import Tagger, chunk_logits
from tutti.train.tagging_recipe import TaggingRecipe

COLUMNS = ("path", "start_s", "end_s", "instrument", "probability", "present", "nothing_heard")


def timeline_of(
    path: Path, tagger: Tagger, recipe: TaggingRecipe, thresholds: Mapping[str, float], downmix: Downmix = "mean"
) -> dict[str, Any]:
    """Name the instruments of one file, and when they play.

    Args:
        path: of the file.
        tagger: that hears it.
        recipe: of the tagger.
        thresholds: of every class, in the order of the classes.
        downmix: how channels become one.

    Returns:
        What is known of the file. Where there is nothing to hear, in all of it or in a chunk, all probabilities are 0
        and `nothing_heard` says why; such chunks do not count in the file's probabilities.

    Raises:
        UsageError: no such file.
        IntegrityError: it is no audio that the decoders read.
    """
    sound, names = load_sound(path, recipe, downmix), list(thresholds)
    clip = one_clip(sound.mono, tagger, recipe, len(names))
    plan = plan_chunks(clip.lengths.cpu().numpy(), evaluation_chunking(recipe))
    duration_s = len(sound.mono) / recipe.sample_rate
    spans = [(start_s, min(end_s, duration_s)) for start_s, end_s in plan.spans_s(units_per_s(clip.unit, recipe))]
    quiet_K = np.array([_is_quiet(sound, span, recipe.sample_rate) for span in spans])
    finding = sound.finding or (Finding("silent", 1.0) if quiet_K.all() else None)
    chunk_KC, clip_C = np.zeros((len(spans), len(names))), np.zeros(len(names))
    if finding is None:
        logits, plan = chunk_logits(tagger, clip, evaluation_chunking(recipe))
        chunk_KC = np.where(quiet_K[:, None], 0.0, probabilities(logits))
        heard = torch.from_numpy(~quiet_K)
        clip_C = clip_probabilities(logits[heard.to(logits.device)], plan.clips[~quiet_K], recipe.pooling)[0]
    present = [n for n in np.argsort(-clip_C, kind="stable") if finding is None and clip_C[n] >= thresholds[names[n]]]
    heard_KC = (chunk_KC >= np.array(list(thresholds.values()))) & ~quiet_K[:, None] & (finding is None)
    result: dict[str, Any] = rounded(
        {
            "path": str(path),
            "duration_s": duration_s,
            "nothing_heard": None if finding is None else asdict(finding),
            "instruments": [{"name": names[n], "probability": float(clip_C[n])} for n in present],
            "probabilities": _named(names, clip_C),
            "timeline": {name: joined(spans, heard_KC[:, n]) for n, name in enumerate(names) if heard_KC[:, n].any()},
            "chunks": [
                {
                    "start_s": start_s,
                    "end_s": end_s,
                    "nothing_heard": finding.reason if finding else "silent" if quiet else None,
                    "probabilities": _named(names, row),
                }
                for (start_s, end_s), quiet, row in zip(spans, quiet_K, chunk_KC, strict=True)
            ],
        }
    )
    return result


def _is_quiet(sound: Sound, span: tuple[Seconds, Seconds], sample_rate: int) -> bool:
    start_s, end_s = span
    return sound.is_silent(round(start_s * sample_rate), max(round(end_s * sample_rate), 1))


def one_clip(mono: audio.Mono, tagger: Tagger, recipe: TaggingRecipe, num_classes: int) -> Clips:
    """Make a clip without labels; frames are stored as training stores them."""
    device, unit = tagger.device, evaluation_unit(recipe)
    values = torch.from_numpy(mono).to(device)
    if unit == "frames":
        with torch.inference_mode():
            values = tagger.featurize(values[None])[0].half()
    presence = torch.full((1, num_classes), -1, dtype=torch.int8, device=device)
    lengths = torch.tensor([len(values)], device=device)
    fill = recipe.frames.silence if unit == "frames" else 0.0
    return Clips(values, torch.zeros_like(lengths), lengths, presence, ("",), unit, fill=fill)


def _named(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def joined(spans: Sequence[tuple[float, float]], heard_K: NDArray[np.bool_]) -> list[list[float]]:
    """Join chunks above an instrument's threshold that touch to stretches [start, end], in seconds."""
    stretches: list[list[float]] = []
    for (start_s, end_s), heard in zip(spans, heard_K, strict=True):
        if heard and stretches and start_s <= stretches[-1][1]:
            stretches[-1][1] = end_s
        elif heard:
            stretches.append([start_s, end_s])
    return stretches


def as_text(result: dict[str, Any]) -> str:
    """Write a file's instruments, most probable first."""
    lines = [f"{result['path']}  ({result['duration_s']:.1f} s)"]
    for item in result["instruments"]:
        times = ", ".join(f"{start:.1f}-{end:.1f} s" for start, end in result["timeline"].get(item["name"], []))
        lines.append(f"    {item['name']:20}{item['probability']:.2f}  {times}".rstrip())
    if (finding := result["nothing_heard"]) is not None:
        lines.append(f"    nothing to hear: {finding_text(finding)}")
    elif not result["instruments"]:
        name, probability = max(result["probabilities"].items(), key=lambda item: item[1])
        lines.append(f"    none above its threshold; nearest: {name} {probability:.2f}")
    return "\n".join(lines)


def draw(result: dict[str, Any], thresholds: Mapping[str, float], path: Path) -> None:
    """Draw a file's time line as a picture at `path`."""
    from tutti.train.scoring.pictures import activity, save  # matplotlib takes a second to load

    spans = [(chunk["start_s"], chunk["end_s"]) for chunk in result["chunks"]]
    rows = [list(chunk["probabilities"].values()) for chunk in result["chunks"]]  # in the order of the classes
    title = Path(result["path"]).name
    save(activity(spans, np.array(rows), np.array(list(thresholds.values())), list(thresholds), title), path)


def as_csv(results: Sequence[dict[str, Any]], thresholds: Mapping[str, float]) -> str:
    """Write the time line of all files: a row per file, chunk and instrument."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(safe_row(row) for row in _rows(results, thresholds))
    return text.getvalue()


def _rows(results: Sequence[dict[str, Any]], thresholds: Mapping[str, float]) -> Iterator[tuple[Any, ...]]:
    for result in results:
        for chunk in result["chunks"]:
            for name, probability in chunk["probabilities"].items():
                reason = chunk["nothing_heard"] or ""
                present = int(not reason and probability >= thresholds[name])
                yield result["path"], chunk["start_s"], chunk["end_s"], name, probability, present, reason
