"""Songs of stems for the sample's folders of one's own: what MedleyDB and Mixing Secrets have in common.

A song is a handful of players, each of whom rests for a while. A stem is what one of them plays; the mix is the sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import yaml

from tutti.datasets.sample.dsp import SAMPLE_RATE, rng_for
from tutti.datasets.sample.music import Song
from tutti.datasets.sample.room import Pcm

DURATION_S = 5.0
EXCESS_S = 2.0  # of the stem that is longer than its mix
_FADE_S = 0.05


@dataclass(frozen=True)
class Stem:
    """A stem as upstream names it, and who plays it here."""

    instrument: str | tuple[str, ...]  # upstream's words
    player: str  # of instruments.INSTRUMENTS, or DRUMS
    file: str = ""  # upstream's name of the file, where its number is not enough


@dataclass(frozen=True)
class SongPlan:
    """Everything that a worker needs to write one song."""

    seed: int
    key: str  # upstream's id
    artist: str
    title: str
    stems: tuple[Stem, ...]
    faults: dict[str, str] = field(default_factory=dict)  # stem, or "metadata" or "mix" -> what is wrong
    has_bleed: bool = False
    album: str = ""


def render_stems(plan: SongPlan) -> tuple[dict[str, Pcm], Pcm]:
    """Render the stems of a song by their numbers, `S01`, and their sum; int16 (num_samples, 2) at 44.1 kHz.

    A stem may be silent or longer than the mix; of one that is missing the mix has the sound all the same.
    """
    song = Song(plan.seed, f"songs/{plan.key}", [stem.player for stem in plan.stems])
    num_samples = round(DURATION_S * SAMPLE_RATE)
    stems: dict[str, Pcm] = {}
    total = np.zeros((num_samples, 2))
    for number, stem in enumerate(plan.stems, start=1):
        name = f"S{number:02}"
        fault = plan.faults.get(name, "")
        length = num_samples + (round(EXCESS_S * SAMPLE_RATE) if fault == "longer_than_mix" else 0)
        heard = song.excerpt(f"stem {number}", length, {stem.player: 0.0}) / len(plan.stems)
        heard *= 0.0 if fault == "silent" else _presence(plan, number, length)
        stems[name] = np.rint(heard).astype(np.int16)
        total += stems[name][:num_samples]
    if plan.has_bleed:
        stems = {name: _with_bleed(pcm, total) for name, pcm in stems.items()}
    return stems, np.rint(total).clip(-32_768, 32_767).astype(np.int16)


def _presence(plan: SongPlan, number: int, num_samples: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Compute the gain of a player who rests once, (num_samples, 1)."""
    rng = rng_for(plan.seed, "songs", plan.key, number)
    rest_s = float(rng.uniform(0.5, 1.5))
    start_s = float(rng.uniform(0.0, DURATION_S - rest_s))
    times_s = np.arange(num_samples) / SAMPLE_RATE
    away_s = np.maximum(start_s - times_s, times_s - (start_s + rest_s))  # above 0: outside the rest
    return np.asarray(np.clip(away_s / _FADE_S, 0.0, 1.0)[:, np.newaxis])


def _with_bleed(pcm: Pcm, total: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Pcm:
    """Add the whole song to a stem, 26 dB below itself."""
    heard = pcm.astype(np.float64)
    heard[: len(total)] += 0.05 * total[: len(heard)]
    return np.rint(heard).clip(-32_768, 32_767).astype(np.int16)


def metadata_yaml(plan: SongPlan, *, origin: str, version: str, nothing: str) -> bytes:
    """Format the metadata of a song as both corpora write them: yes and no are texts.

    Args:
        plan: the song.
        origin: of the recording.
        version: of the format.
        nothing: of producers and websites, as YAML: `[]` in one corpus, `''` in the other.
    """
    stems, empty = {}, yaml.safe_load
    for number, stem in enumerate(plan.stems, start=1):
        instrument = list(stem.instrument) if isinstance(stem.instrument, tuple) else stem.instrument
        raw = {"R01": {"filename": f"{plan.key}_RAW_{number:02}_01.wav", "instrument": str(instrument)}}
        stems[f"S{number:02}"] = {
            "component": "", "filename": file_of(plan, number), "instrument": instrument, "raw": raw,
        }  # fmt: skip
    fields = {
        "album": plan.album, "artist": plan.artist, "composer": empty(nothing), "excerpt": "no", "genre": "",
        "has_bleed": "yes" if plan.has_bleed else "no",
        "instrumental": "no", "mix_filename": f"{plan.key}_MIX.wav",
        "origin": origin, "producer": empty(nothing), "raw_dir": f"{plan.key}_RAW", "stem_dir": f"{plan.key}_STEMS",
        "stems": stems, "title": plan.title, "version": version, "website": empty(nothing),
    }  # fmt: skip
    return yaml.safe_dump(fields, allow_unicode=True).encode()


def file_of(plan: SongPlan, number: int) -> str:
    """Name the file of a stem."""
    return plan.stems[number - 1].file or f"{plan.key}_STEM_{number:02}.wav"


def truth(plans: Sequence[SongPlan]) -> dict[str, object]:
    """List what was planted where, and who plays each stem."""
    return {
        plan.key: {
            "artist": plan.artist,
            "has_bleed": plan.has_bleed,
            "faults": plan.faults,
            "stems": {f"S{number:02}": stem.player for number, stem in enumerate(plan.stems, start=1)},
        }
        for plan in plans
    }
