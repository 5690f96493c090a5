"""The sample's Mixing Secrets: songs in Medley format, and as the library serves them, with upstream's traps.

    user/MixingSecrets/Audio/<id>/<id>_STEMS/08_Bass.wav, <id>_METADATA.yaml       Gururani and Lerch's format
    user/MixingSecrets/<Artist>_<Title>_Full.zip                                   01_Kick.wav, ...: 24 bit, 48 kHz
    user/MixingSecrets/<Artist>_<Title>_Full/01_Kick.wav                           one unpacked

Planted, once each: a song without a mix, a stem that is missing, one that is cut off, bleed, the issue of a magazine
for an artist, an artist of the sample's MedleyDB, sides of a pair, tracks of unequal lengths, and a track that no rule
knows.
"""

import io
from collections.abc import Sequence

import numpy as np
import soundfile
from scipy.signal import resample_poly

from tutti.datasets.sample.dsp import SAMPLE_RATE, rng_for
from tutti.datasets.sample.encode import Member, wav_bytes
from tutti.datasets.sample.instruments import DRUMS
from tutti.datasets.sample.room import Pcm
from tutti.datasets.sample.songs import SongPlan, Stem, file_of, metadata_yaml, render_stems

FOLDER = "user/MixingSecrets"
_RAW_RATE = 48_000

KIT = Stem("drum set", DRUMS, "{key}_STEM_drums.wav")
BASS = Stem("electric bass", "bass", "08_Bass.wav")
GUITAR = Stem("ElecGtr", "electric_guitar", "09_ElecGtr1.wav")
ACOUSTIC = Stem("acoustic guitar", "acoustic_guitar", "10_AcousticGtr.wav")
SINGER = Stem("leadvox", "voice", "11_LeadVox.wav")
PIANO = Stem("Piano", "piano", "12_Piano.wav")
HAMMOND = Stem("Hammond", "organ", "13_Hammond.wav")
SYNTHESIZER = Stem("synthesizer", "synthesizer", "{key}_STEM_synth.wav")
VIOLINS = Stem("violins", "violin", "14_Violins.wav")
CELLO = Stem("cello", "cello", "15_Cello.wav")
TRUMPET = Stem("trumpet", "trumpet", "16_Trumpet.wav")
SAXOPHONE = Stem("tenor saxophone", "saxophone", "17_TenorSax.wav")

Planted = tuple[str, str, tuple[Stem, ...], dict[str, str], bool]  # id, artist, stems, what is wrong, bleed

_ARTISTS = ("CopperLine", "Zephyrian", "TheOddPlot", "GreyWharf")
_BANDS = (
    (KIT, BASS, GUITAR),
    (ACOUSTIC, SINGER),
    (PIANO, VIOLINS, CELLO),
    (KIT, BASS, HAMMOND),
    (SYNTHESIZER, KIT, SINGER),
    (TRUMPET, SAXOPHONE, PIANO),
)
_PLANTED: tuple[Planted, ...] = (
    ("CopperLine_Drift", "CopperLine", (KIT, BASS, SINGER), {}, False),
    ("CopperLine_Static", "CopperLine", (KIT, GUITAR, HAMMOND), {"S02": "truncated"}, False),
    ("MR1210_CopperLine", "MR1210", (ACOUSTIC, SINGER), {"mix": "missing"}, False),
    ("Zephyrian_Walls", "Zephyrian", (PIANO, VIOLINS, CELLO), {"S02": "missing"}, False),
    ("Zephyrian_Halls", "Zephyrian", (SYNTHESIZER, SINGER), {}, True),
    ("LowHarbour_Boats", "LowHarbour", (SINGER, ACOUSTIC, BASS), {}, False),
)
_RAW = (
    Stem("01_Kick", DRUMS),
    Stem("03_BassDI", "bass"),
    Stem("07_ElecGtr1", "electric_guitar"),
    Stem("12_Piano", "piano"),
    Stem("20_Mystery", "flute"),
)
RAW_KEYS = ("GreyWharf_Ledger", "GreyWharf_Moorings")  # a zip, and a folder


def plan_songs(seed: int, num_more: int) -> tuple[SongPlan, ...]:
    """Plan the songs in Medley format: with something planted, and `num_more` of which all is well."""
    planted = [
        _plan(seed, key, artist, "Copper Line" if key.startswith("MR") else key.partition("_")[2], stems, faults, bleed)
        for key, artist, stems, faults, bleed in _PLANTED
    ]
    for place in range(num_more):
        artist = _ARTISTS[place % len(_ARTISTS)]
        title = f"Song{place + 1}"
        planted.append(_plan(seed, f"{artist}_{title}", artist, title, _BANDS[place % len(_BANDS)], {}, False))
    return tuple(planted)


def plan_raw(seed: int) -> tuple[SongPlan, ...]:
    """Plan the songs as the library serves them."""
    return tuple(SongPlan(seed, key, key.partition("_")[0], key.partition("_")[2], _RAW) for key in RAW_KEYS)


def _plan(
    seed: int, key: str, artist: str, title: str, stems: Sequence[Stem], faults: dict[str, str], bleed: bool
) -> SongPlan:
    named = tuple(Stem(stem.instrument, stem.player, stem.file.format(key=key)) for stem in stems)
    return SongPlan(seed, key, artist, title, named, faults, bleed)


def render_song(plan: SongPlan) -> list[Member]:
    """Render the files of one song in Medley format, paths below the mirror."""
    stems, mix = render_stems(plan)
    home = f"{FOLDER}/Audio/{plan.key}/{plan.key}"
    files = [(f"{home}_METADATA.yaml", metadata_yaml(plan, origin="Mixing Secrets", version="3.0", nothing="''"))]
    if plan.faults.get("mix") != "missing":
        files.append((f"{home}_MIX.wav", wav_bytes(mix)))
    for number, (name, pcm) in enumerate(stems.items(), start=1):
        content, fault = wav_bytes(pcm), plan.faults.get(name)
        if fault != "missing":
            cut = content[: len(content) // 2] if fault == "truncated" else content
            files.append((f"{home}_STEMS/{file_of(plan, number)}", cut))
    return files


def render_raw(plan: SongPlan) -> list[Member]:
    """Render the raw tracks of one song, names below its folder: mono but for the piano, whose sides are two files."""
    stems, _ = render_stems(plan)
    files: list[Member] = []
    for number, (stem, pcm) in enumerate(zip(plan.stems, stems.values(), strict=True), start=1):
        rng = rng_for(plan.seed, "mixing_secrets", plan.key, number)
        kept = pcm[: len(pcm) - int(rng.integers(0, SAMPLE_RATE // 2))]  # a track ends where its player does
        name = str(stem.instrument)
        if stem.player == "piano":
            files += [(f"{name}.{side}.wav", _raw_wav(kept[:, channel])) for channel, side in enumerate("LR")]
        else:
            files.append((f"{name}.wav", _raw_wav(kept.mean(axis=1))))
    return files


def _raw_wav(samples: Pcm | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bytes:
    stream = io.BytesIO()
    heard = resample_poly(samples / 32_768, 160, 147)
    soundfile.write(stream, np.clip(heard, -1, 1), _RAW_RATE, format="WAV", subtype="PCM_24")
    return stream.getvalue()
