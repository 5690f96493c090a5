"""The sample's MedleyDB and Mixing Secrets: in upstream's layouts, with the faults that TRUTH.json names."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import once
from sample_songs import MEDLEY, RAW, SECRETS, write_user_folder

from tutti.datasets.record import Clip
from tutti.datasets.sample import mixing_secrets as sample_secrets
from tutti.datasets.sample import songs
from tutti.datasets.sources import medleydb, mixing_secrets


@pytest.fixture(scope="module")
def root(session_folder: Path) -> Path:
    """The folder of what a user has, written by the same functions as the sample."""
    return once(session_folder, "user-songs", write_user_folder) / "user"


def clips_of(source: Any, root: Path) -> dict[tuple[str, str | None], Clip]:
    clips = [clip for recording in source.read({}, source.Config(roots=(str(root),))) for clip in recording.clips]
    return {(clip.track.song, clip.track.stem): clip for clip in clips}


def samples_of(root: Path, path: str) -> np.ndarray[Any, Any]:
    return np.asarray(soundfile.read(root / path)[0])


def test_every_stem_of_medleydb_is_found_with_what_was_planted(root):
    clips = clips_of(medleydb, root)

    for plan in MEDLEY:
        for number in range(1, len(plan.stems) + 1):
            clip = clips[plan.key, f"S{number:02}"]
            fault = "empty" if plan.faults.get("metadata") else plan.faults.get(f"S{number:02}")
            expected = {"missing": "missing_stem", "empty": "no_metadata"}.get(fault or "")
            assert (clip.defect.reason if clip.defect else None) == expected
            assert clip.track is not None
            assert clip.track.bleed == plan.has_bleed
    assert len(clips) == sum(len(plan.stems) + 1 for plan in MEDLEY)
    assert [one.num_files for one in medleydb.inputs(medleydb.Config(roots=(str(root),)))] == [8, 2]


def test_activations_of_the_sample_agree_with_its_audio(root):
    (sounding,) = clips_of(medleydb, root)["LowHarbour_Ropes", "S03"].sounding or ()
    heard = samples_of(root, "MedleyDB/Audio/LowHarbour_Ropes/LowHarbour_Ropes_STEMS/LowHarbour_Ropes_STEM_03.wav")
    active = sum(end_s - start_s for start_s, end_s in sounding.spans)

    assert len(sounding.spans) >= 2  # each player rests once
    assert 3.0 < active < songs.DURATION_S - 0.4
    quiet = np.ones(len(heard), dtype=bool)
    for start_s, end_s in sounding.spans:
        quiet[round(start_s * 44_100) : round(end_s * 44_100)] = False
    assert np.sqrt(np.mean(heard[quiet] ** 2)) < 0.003


def test_a_mix_is_the_sum_of_its_stems(root):
    home = "MedleyDB/Audio/LowHarbour_Ropes/LowHarbour_Ropes"
    stems = [samples_of(root, f"{home}_STEMS/LowHarbour_Ropes_STEM_0{number}.wav") for number in (1, 2, 3)]

    np.testing.assert_allclose(samples_of(root, f"{home}_MIX.wav"), sum(stems), atol=2e-4)


def test_songs_of_the_library_are_read_from_zip_and_folder(root):
    clips = clips_of(mixing_secrets, root)

    assert {song for song, _ in clips} == {plan.key for plan in (*SECRETS, *RAW)}
    for plan in RAW:
        assert {stem for song, stem in clips if song == plan.key} == {str(stem.instrument) for stem in plan.stems} | {
            None
        }
        assert clips[plan.key, "20_Mystery"].labels == {}
    assert clips["MR1210_CopperLine", "S01"].track.artist_group == clips["CopperLine_Drift", "S01"].track.artist_group
    assert clips["LowHarbour_Boats", None].track.artist_group == "lowharbour"


def test_raw_tracks_have_24_bits_at_48_khz_and_lengths_of_their_own(root):
    files = dict(sample_secrets.render_raw(RAW[0]))
    facts = {name: soundfile.info(io.BytesIO(content)) for name, content in files.items()}

    assert sorted(facts) == [
        "01_Kick.wav", "03_BassDI.wav", "07_ElecGtr1.wav", "12_Piano.L.wav", "12_Piano.R.wav", "20_Mystery.wav",
    ]  # fmt: skip
    assert {(fact.subtype, fact.samplerate, fact.channels) for fact in facts.values()} == {("PCM_24", 48_000, 1)}
    assert len({fact.frames for fact in facts.values()}) == 5


def test_the_same_seed_gives_the_same_bytes():
    assert sample_secrets.render_song(SECRETS[1]) == sample_secrets.render_song(SECRETS[1])
    assert sample_secrets.render_song(SECRETS[1]) != sample_secrets.render_song(sample_secrets.plan_songs(1, 0)[1])
