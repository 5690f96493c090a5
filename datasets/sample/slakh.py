"""The sample's Slakh: songs of stems that add up to their mix, redux and babyslakh, with upstream's layout and traps.

    slakh2100_flac_redux/<split>/TrackNNNNN/    metadata.yaml, mix.flac, stems/SNN.flac, MIDI/SNN.mid, all_src.mid
    babyslakh_16k/TrackNNNNN/                   the first two tracks, as .wav of 16 kHz

Planted, once each: a program without a patch (`plugin_name: None`), an organ that metadata calls a harmonica and a
flute that it calls a shakuhachi, paths of somebody's disk, flags that deny all stems, and stems that are missing,
silent, noise, longer than their mix, cut off, or on the list of bad ones; a song without metadata, one without a mix,
and one that is made of another's MIDI file.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import soundfile
import yaml
from scipy.signal import resample_poly

from tutti.datasets.sample.dsp import SAMPLE_RATE, Signal, rng_for
from tutti.datasets.sample.encode import Member
from tutti.datasets.sample.instruments import DRUMS
from tutti.datasets.sample.music import Song

DURATION_S = 8.0
REDUX, BABY, BABY_TRACKS = "slakh2100_flac_redux", "babyslakh_16k", 2
_EXCESS_S = 2.0  # of the stem that is longer than its mix
_FADE_S = 0.05
_EMPTY_MIDI = b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0"


class Patch(NamedTuple):
    """The rendering that Slakh would have given a stem, and the instrument that plays it here."""

    program: int
    name: str  # General MIDI's
    inst_class: str
    plugin: str
    instrument: str  # of instruments.INSTRUMENTS, or DRUMS


PIANO = Patch(0, "Acoustic Grand Piano", "Piano", "grand_piano.nkm", "piano")
MALLETS = Patch(12, "Marimba", "Chromatic Percussion", "marimba.nkm", "mallet_percussion")
ORGAN = Patch(19, "Church Organ", "Organ", "organ_kh_grprplenum_manual.nkm", "organ")
HARMONICA = Patch(22, "Harmonica", "Organ", "transistor_compact.nkm", "organ")
ACOUSTIC = Patch(25, "Acoustic Guitar (steel)", "Guitar", "nylon_guitar2.nkm", "acoustic_guitar")
ELECTRIC = Patch(30, "Distortion Guitar", "Guitar", "rock_guitar.nkm", "electric_guitar")
BASS = Patch(33, "Electric Bass (finger)", "Bass", "pop_bass.nkm", "bass")
VIOLIN = Patch(40, "Violin", "Strings", "violin_solo.nkm", "violin")
CELLO = Patch(42, "Cello", "Strings", "cello_solo.nkm", "cello")
CHOIR = Patch(52, "Choir Aahs", "Strings (continued)", "choir_a.nkm", "voice")
TRUMPET = Patch(56, "Trumpet", "Brass", "trumpet_1.nkm", "trumpet")
SAXOPHONE = Patch(66, "Tenor Sax", "Reed", "tenor_sax.nkm", "saxophone")
CLARINET = Patch(71, "Clarinet", "Reed", "clarinet.nkm", "clarinet")
SHAKUHACHI = Patch(77, "Shakuhachi", "Pipe", "flute.nkm", "flute")
SYNTHESIZER = Patch(81, "Lead 2 (sawtooth)", "Synth Lead", "december_saw.nkm", "synthesizer")
KIT = Patch(128, "Drums", "Drums", "funk_kit.nkm", DRUMS)
NO_PATCH = Patch(97, "FX 2 (soundtrack)", "Sound Effects", "None", "")

_BANDS: tuple[tuple[Patch, ...], ...] = (
    (PIANO, BASS, KIT, ELECTRIC),
    (HARMONICA, SHAKUHACHI, ACOUSTIC),
    (VIOLIN, CELLO, PIANO),
    (ELECTRIC, BASS, KIT, SYNTHESIZER),
    (TRUMPET, SAXOPHONE, BASS, KIT),
    (CLARINET, ACOUSTIC, CELLO),
    (CHOIR, ORGAN, VIOLIN),
    (MALLETS, PIANO, KIT),
)


@dataclass(frozen=True)
class Track:
    """Everything that a worker needs to write one track."""

    seed: int
    number: int
    folder: str
    stems: tuple[Patch, ...]
    faults: dict[str, str] = field(default_factory=dict)  # stem, or "metadata" or "mix" -> what is wrong
    copied_from: int | None = None  # the track whose MIDI file it is made of

    @property
    def name(self) -> str:
        """Upstream's name of the track."""
        return f"Track{self.number:05}"

    @property
    def uuid(self) -> str:
        """MD5 of a MIDI file, as upstream has it; here digits of chance."""
        rng = rng_for(self.seed, "slakh", "midi", self.copied_from or self.number)
        return bytes(rng.integers(0, 256, 16).tolist()).hex()


_FOLDERS, _FIRST_MORE = (
    ("train", "train", "validation", "train", "test"),
    3_001,
)  # upstream ends at 2,100, with its lists
# Number, folder, faults, track of the same MIDI file. Upstream's lists name 1876 S01 as bad, and omit 1879.
_PLANTED: tuple[tuple[int, str, dict[str, str], int | None], ...] = (
    (1, "train", {"S04": "not_rendered"}, None),
    (2, "train", {"metadata": "wrong_paths", "S02": "silent"}, None),
    (3, "train", {"S01": "missing"}, None),
    (1501, "validation", {"S03": "longer_than_mix", "metadata": "flags_false"}, None),
    (1502, "validation", {"mix": "missing"}, None),
    (1503, "validation", {"S00": "noise"}, None),
    (1876, "test", {"S01": "known_bad"}, None),
    (1877, "test", {"S00": "truncated"}, None),
    (1878, "test", {"metadata": "empty"}, None),
    (1879, "omitted", {}, 1),
)


def plan_tracks(seed: int, num_more: int) -> tuple[Track, ...]:
    """Plan the tracks with something planted, and `num_more` of which all is well, most of them for training."""
    tracks = []
    for place, (number, folder, faults, copied_from) in enumerate(_PLANTED):
        band = _BANDS[0 if copied_from else place % len(_BANDS)]
        stems = (*band, NO_PATCH) if "not_rendered" in faults.values() else band
        tracks.append(Track(seed, number, folder, stems, faults, copied_from))
    for place in range(num_more):
        folder = _FOLDERS[place % len(_FOLDERS)]
        tracks.append(Track(seed, _FIRST_MORE + place, folder, _BANDS[place % len(_BANDS)]))
    return tuple(sorted(tracks, key=lambda track: track.number))


def render_track(track: Track) -> list[Member]:
    """Render the files of one track, paths below its folder; sounds as FLAC."""
    num_samples = round(DURATION_S * SAMPLE_RATE)
    song = Song(track.seed, f"slakh/{track.number}", [patch.instrument for patch in track.stems if patch.instrument])
    mix = np.zeros(num_samples)
    files: list[Member] = [("all_src.mid", _EMPTY_MIDI)]
    for index, patch in enumerate(track.stems):
        name = f"S{index:02}"
        fault = track.faults.get(name, "")
        if not patch.instrument:
            continue
        files.append((f"MIDI/{name}.mid", _EMPTY_MIDI))
        stem = _stem(track, song, index, patch, fault)
        mix += stem[:num_samples]
        if fault != "missing":
            content = _flac(stem)
            files.append((f"stems/{name}.flac", content[: len(content) // 2] if fault == "truncated" else content))
    if track.faults.get("mix") != "missing":
        files.append(("mix.flac", _flac(mix)))
    metadata = b"" if track.faults.get("metadata") == "empty" else _metadata(track, f"{track.name}/")
    return [*files, ("metadata.yaml", metadata)]


def _stem(track: Track, song: Song, index: int, patch: Patch, fault: str) -> Signal:
    """Render one stem, mono; it rests for a part of the song."""
    excess_s = _EXCESS_S if fault == "longer_than_mix" else 0.0
    num_samples = round((DURATION_S + excess_s) * SAMPLE_RATE)
    if fault == "silent":
        return np.zeros(num_samples)
    if fault == "noise":
        return 0.05 * rng_for(track.seed, "slakh", track.number, "noise").standard_normal(num_samples)
    pcm = song.excerpt(f"stem {index}", num_samples, {patch.instrument: 0.0})
    signal = pcm.mean(axis=1) / 32_768 / len(track.stems)
    rng = rng_for(track.seed, "slakh", track.number, index)
    rest_s = float(rng.uniform(0.5, 1.5))
    start_s = float(rng.uniform(0.0, DURATION_S - rest_s))
    times_s = np.arange(num_samples) / SAMPLE_RATE
    away_s = np.maximum(start_s - times_s, times_s - (start_s + rest_s))  # above 0: outside the rest
    return np.asarray(signal * np.clip(away_s / _FADE_S, 0.0, 1.0))


def _pcm(signal: Signal) -> Any:
    return np.clip(np.rint(signal * 32_767), -32_768, 32_767).astype(np.int16)


def _flac(signal: Signal) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, _pcm(signal), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def _baby_wav(flac: bytes) -> bytes:
    samples, _ = soundfile.read(io.BytesIO(flac))
    stream = io.BytesIO()
    soundfile.write(stream, _pcm(resample_poly(samples, 160, 441)), 16_000, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def _metadata(track: Track, place: str) -> bytes:
    fault = track.faults.get("metadata", "")
    place = "Volumes/data/generated_data/last/Track00001/" if fault == "wrong_paths" else place
    stems = {}
    for index, patch in enumerate(track.stems):
        rendered = bool(patch.instrument)
        loudness = {"integrated_loudness": -20.0 - index} if rendered else {}
        stems[f"S{index:02}"] = loudness | {
            "audio_rendered": rendered and fault != "flags_false", "inst_class": patch.inst_class,
            "is_drum": patch.instrument == DRUMS, "midi_program_name": patch.name, "midi_saved": rendered,
            "plugin_name": patch.plugin, "program_num": patch.program,
        }  # fmt: skip
    fields = {
        "UUID": track.uuid, "audio_dir": f"{place}stems", "midi_dir": f"{place}MIDI", "normalization_factor": -13.0,
        "lmd_midi_dir": f"lmd_matched/Z/Z/Z/TRZZZ{track.number:05}/{track.uuid}.mid", "normalized": True,
        "overall_gain": 1.0 / len(track.stems), "stems": stems, "target_peak": -1.0,
    }  # fmt: skip
    return yaml.safe_dump(fields).encode()


def redux_members(tracks: Sequence[Track], rendered: Iterable[list[Member]]) -> Iterator[Member]:
    """Yield the archive of all tracks; `rendered` holds their files in order."""
    for track, files in zip(tracks, rendered, strict=True):
        for name, content in files:
            yield f"{REDUX}/{track.folder}/{track.name}/{name}", content


def baby_members(tracks: Sequence[Track], rendered: Iterable[list[Member]]) -> Iterator[Member]:
    """Yield babyslakh: the first tracks as 16 kHz WAV."""
    for track, files in zip(tracks, rendered, strict=True):
        for name, content in files:
            is_sound = name.endswith(".flac")
            renamed = f"{name.removesuffix('.flac')}.wav" if is_sound else name
            yield f"{BABY}/{track.name}/{renamed}", _baby_wav(content) if is_sound else content


def truth(tracks: Sequence[Track]) -> dict[str, object]:
    """List what was planted where, and what each stem really is."""
    return {
        track.name: {
            "uuid": track.uuid,
            "folder": track.folder,
            "faults": track.faults,
            "stems": {f"S{index:02}": patch.instrument for index, patch in enumerate(track.stems)},
        }
        for track in tracks
    }
