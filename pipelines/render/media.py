"""Rendering within the fetch stage: `render:...` -> a FLAC in the cache."""

import io
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tutti.datasets.audio import to_mono
from tutti.datasets.manifest import digest_of
from tutti.datasets.record import Clip, Media, Note, Recording, Seconds
from tutti.datasets.scores.labels import sounded_by
from tutti.datasets.scores.score import Score, excerpt
from tutti.datasets.scores.soundfonts import by_key, find_soundfonts
from tutti.datasets.scores.variation import CODE_VERSION as VARIATION_VERSION
from tutti.datasets.scores.variation import Performance
from tutti.datasets.sources.rendered import MAX_SCORE_S, SCHEME, Rendered, parse, performance_of
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.render import synthesizer

CODE_VERSION = 1  # raise it when this file stores other samples
MAX_PEAK = 0.98  # of full scale: room for the encoder's rounding


def is_rendered(media: Media) -> bool:
    """Whether a recording is made here."""
    return media.url.startswith(SCHEME)


def render_recording(recording: Recording, root: str | None, cache: Cache) -> Recording:
    """Render a recording's FLAC into the cache: mono, 16 bit, once for the same address and code.

    Notes that the soundfont does not play (beyond the keys of its instrument) are taken out of the clips, and what
    their instruments do there becomes unknown.

    Args:
        recording: with a `render:` address.
        root: folder of the MIDI files; None: they are composed.
        cache: keeps the FLAC.

    Raises:
        UsageError: FluidSynth or the soundfont is missing.
        IntegrityError: a MIDI file changed while the build ran.
    """
    versions = [CODE_VERSION, synthesizer.CODE_VERSION, VARIATION_VERSION, synthesizer.version()]
    key = digest_of([versions, recording.media.url])
    known = cache.result("render", key)
    if known is None or not cache.has_blob(known["blob"]):
        known = _rendered(parse(recording.media.url), root, cache)
        cache.remember("render", key, known)
    silent = [Note(*values) for values in known["silent"]]
    clips = tuple(without(clip, silent) for clip in recording.clips) if silent else recording.clips
    return replace(recording, media=replace(recording.media, sha256=known["blob"]), clips=clips)


def _rendered(wanted: Rendered, root: str | None, cache: Cache) -> dict[str, Any]:
    performance = shortened(performance_of(wanted, None if root is None else Path(root)), MAX_SCORE_S)
    font = by_key(wanted.font, find_soundfonts())
    rendering = synthesizer.synthesize(performance, font, sample_rate=wanted.sample_rate)
    silent = [astuple(note) for note in rendering.silent]
    return {"blob": cache.put_blob(flac(to_mono(rendering.mix), wanted.sample_rate)), "silent": silent}


def without(clip: Clip, silent: Sequence[Note]) -> Clip:
    """Remove notes that do not sound from a clip."""
    end_s = float("inf") if clip.end_s is None else clip.end_s
    here = [note for note in silent if note.onset_s < end_s and note.offset_s > clip.start_s]
    if not here:
        return clip
    doubted = {name for note in here for name in sounded_by(note)}
    cut = excerpt(Score(tuple(here), max(note.offset_s for note in here)), clip.start_s, end_s)
    return replace(
        clip,
        notes=tuple(note for note in clip.notes or () if note not in cut),
        labels={name: label for name, label in clip.labels.items() if name not in doubted},
    )


def shortened(performance: Performance, end_s: Seconds) -> Performance:
    """Cut a performance at a time; its notes stay whole numbers of their own."""
    score = performance.score
    if score.end_s <= end_s:
        return performance
    notes = tuple(note for note in score.notes if note.onset_s < end_s)
    cut = Score(notes, end_s)
    return Performance(cut, performance.gains_db, performance.drum_kit, performance.room)


def flac(waveform: NDArray[np.float32], sample_rate: int, gain: float | None = None) -> bytes:
    """Encode a waveform (T,) or (channels, T) as 16-bit FLAC; without a gain, quieter where it passes full scale."""
    stream = io.BytesIO()
    samples = to_int16(waveform, peak_gain(waveform) if gain is None else gain)
    soundfile.write(stream, samples.T, sample_rate, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def peak_gain(waveform: NDArray[np.float32]) -> float:
    """Compute the factor that keeps a waveform's peak below full scale; never above 1."""
    return min(1.0, MAX_PEAK / max(1e-9, float(np.abs(waveform).max(initial=0.0))))


def to_int16(waveform: NDArray[np.float32], gain: float) -> NDArray[np.int16]:
    """Scale and round to 16 bits."""
    scaled = np.rint(waveform * np.float32(gain * 32_767)).clip(-32_768, 32_767)  # a stem may be louder than the mix
    samples: NDArray[np.int16] = scaled.astype(np.int16)
    return samples
