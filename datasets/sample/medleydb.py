"""The sample's MedleyDB: what a person has once Zenodo has given access, with upstream's layout and traps.

    user/MedleyDB/Audio/<id>/<id>_MIX.wav, <id>_STEMS/<id>_STEM_01.wav      44.1 kHz, 16 bit, stereo
    user/MedleyDB/Metadata/<id>_METADATA.yaml                               of all songs; of most also beside the audio
    user/MedleyDB/Annotations/Activation_Confidence/v2/<id>_ACTIVATION_CONF.lab     of one

Planted, once each: stems that are missing, silent, longer than their mix, or of an instrument that nobody knows; a
whole ensemble in one stem, two instruments in one, bleed, empty metadata, and metadata without audio.
"""

from collections.abc import Iterator

import numpy as np

from tutti.datasets.sample.dsp import SAMPLE_RATE
from tutti.datasets.sample.encode import Member, wav_bytes
from tutti.datasets.sample.instruments import DRUMS
from tutti.datasets.sample.room import Pcm
from tutti.datasets.sample.songs import SongPlan, Stem, file_of, metadata_yaml, render_stems

FOLDER = "user/MedleyDB"
_HOP = 2048  # samples at 44.1 kHz between two confidences

KIT = Stem("drum set", DRUMS)
BASS = Stem("electric bass", "bass")
DISTORTED = Stem("distorted electric guitar", "electric_guitar")
CLEAN = Stem("clean electric guitar", "electric_guitar")
ACOUSTIC = Stem("acoustic guitar", "acoustic_guitar")
PIANO = Stem("piano", "piano")
SINGER = Stem("female singer", "voice")
VIOLIN = Stem("violin", "violin")
CELLO = Stem("cello", "cello")
FLUTE = Stem("flute", "flute")
CLARINET = Stem("clarinet", "clarinet")
SAXOPHONE = Stem("alto saxophone", "saxophone")
TRUMPET = Stem("trumpet", "trumpet")
ORGAN = Stem("electronic organ", "organ")
SYNTHESIZER = Stem("synthesizer", "synthesizer")

Planted = tuple[str, str, tuple[Stem, ...], dict[str, str], bool]  # id, artist, stems, what is wrong, bleed

_ARTISTS = ("Low Harbour", "Mira Vole", "Old Mill", "Ferncliff")
_BANDS = (
    (KIT, BASS, DISTORTED),
    (PIANO, SINGER),
    (VIOLIN, CELLO, PIANO),
    (SAXOPHONE, BASS, KIT),
    (ACOUSTIC, SINGER, FLUTE),
    (SYNTHESIZER, KIT, CLEAN),
    (CLARINET, ORGAN),
    (TRUMPET, PIANO, BASS),
)
_PLANTED: tuple[Planted, ...] = (
    ("LowHarbour_Ropes", "Low Harbour", (KIT, BASS, SINGER), {"annotations": "activation"}, False),
    ("LowHarbour_Tideline", "low harbour", (DISTORTED, SINGER), {}, True),
    ("MiraVole_Etude", "Mira Vole", (VIOLIN, CELLO, PIANO), {"S02": "missing"}, False),
    ("MiraVole_Blue", "Mira Vole", (Stem(("trumpet", "trombone"), "trumpet"), PIANO), {}, False),
    ("OldMill_Bourree", "Old Mill", (CLARINET, Stem("hurdy gurdy", "organ")), {"S02": "unknown_instrument"}, False),
    ("OldMill_Reel", "The Old Mill", (FLUTE, ACOUSTIC, KIT), {"S03": "silent"}, False),
    ("Ferncliff_Live", "Ferncliff", (PIANO, Stem("Main System", "saxophone")), {"S01": "longer_than_mix"}, False),
    ("Ferncliff_Sketch", "Ferncliff", (ACOUSTIC, SINGER), {"metadata": "empty"}, False),
)
_WITHOUT_AUDIO = ("Ferncliff_Lost", "OldMill_Gone")


def plan_songs(seed: int, num_more: int) -> tuple[SongPlan, ...]:
    """Plan the songs with something planted, and `num_more` of which all is well."""
    planted = [
        SongPlan(seed, key, artist, key.partition("_")[2], stems, faults, bleed, album="Harbour Lights")
        for key, artist, stems, faults, bleed in _PLANTED
    ]
    for place in range(num_more):
        artist = _ARTISTS[place % len(_ARTISTS)]
        key = f"{artist.replace(' ', '')}_Song{place + 1}"
        planted.append(SongPlan(seed, key, artist, f"Song {place + 1}", _BANDS[place % len(_BANDS)]))
    return tuple(planted)


def render_song(plan: SongPlan) -> list[Member]:
    """Render the files of one song, paths below the mirror."""
    stems, mix = render_stems(plan)
    home = f"{FOLDER}/Audio/{plan.key}/{plan.key}"
    files = [(f"{home}_MIX.wav", wav_bytes(mix))]
    for number, (name, pcm) in enumerate(stems.items(), start=1):
        if plan.faults.get(name) != "missing":
            files.append((f"{home}_STEMS/{file_of(plan, number)}", wav_bytes(pcm)))
    content = b"" if plan.faults.get("metadata") == "empty" else _metadata(plan)
    files.append((f"{FOLDER}/Metadata/{plan.key}_METADATA.yaml", content))
    if "annotations" in plan.faults:
        folder = f"{FOLDER}/Annotations/Activation_Confidence/v2"
        files.append((f"{folder}/{plan.key}_ACTIVATION_CONF.lab", _activations(stems)))
    else:
        files.append((f"{home}_METADATA.yaml", content))
    return files


def metadata_without_audio(seed: int) -> Iterator[Member]:
    """Yield metadata of songs whose audio is not there."""
    for key in _WITHOUT_AUDIO:
        plan = SongPlan(seed, key, key.partition("_")[0], key.partition("_")[2], (PIANO, SINGER))
        yield f"{FOLDER}/Metadata/{key}_METADATA.yaml", _metadata(plan)


def _metadata(plan: SongPlan) -> bytes:
    return metadata_yaml(plan, origin="Independent Artist", version="1.2", nothing="[]")


def _activations(stems: dict[str, Pcm]) -> bytes:
    """Format a table of confidences: 1 where a frame of a stem is louder than 50 dB below full scale."""
    lines = [",".join(["time", *stems])]
    for start in range(0, max(map(len, stems.values())), _HOP):
        frames = [pcm[start : start + _HOP].astype(np.float64) / 32_768 for pcm in stems.values()]
        loud = [float(np.sqrt(np.mean(frame**2))) > 0.003 if len(frame) else False for frame in frames]
        lines.append(",".join([f"{start / SAMPLE_RATE:.4f}", *(f"{value:.4f}" for value in loud)]))
    return ("\n".join(lines) + "\n").encode()
