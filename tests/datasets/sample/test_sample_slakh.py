"""The sample's Slakh: upstream's layout, stems that add up, and every planted fault found by the reader."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from slakh_archive import archive_of, present

from tutti.datasets.record import Clip
from tutti.datasets.sample import slakh as sample
from tutti.datasets.sources import slakh
from tutti.datasets.sources.slakh import Config


@pytest.fixture(scope="module")
def tracks() -> tuple[sample.Track, ...]:
    return sample.plan_tracks(0, 0)


@pytest.fixture(scope="module")
def rendered(tracks: tuple[sample.Track, ...]) -> list[list[tuple[str, bytes]]]:
    return [sample.render_track(track) for track in tracks]


@pytest.fixture(scope="module")
def clips(
    tracks: tuple[sample.Track, ...], rendered: list[list[tuple[str, bytes]]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Clip]:
    members = dict(sample.redux_members(tracks, rendered))
    files = archive_of(tmp_path_factory.mktemp("slakh") / "redux.tar", members)
    return {recording.clips[0].recording: recording.clips[0] for recording in slakh.read(files, Config())}


def test_stems_add_up_to_the_mix_and_rest_for_a_while(rendered: list[list[tuple[str, bytes]]]) -> None:
    sounds = {name: soundfile.read(io.BytesIO(content)) for name, content in rendered[0] if name.endswith(".flac")}
    assert {rate for _, rate in sounds.values()} == {44_100}
    mix = sounds.pop("mix.flac")[0]
    np.testing.assert_allclose(sum(stem for stem, _ in sounds.values()), mix, atol=1e-3)
    assert len(sounds) == 4
    for stem, _ in sounds.values():
        assert np.abs(stem).max() > 0.02
        assert 0.05 < np.mean(stem == 0) < 0.4


def test_the_reader_finds_what_was_planted_but_for_what_only_audio_shows(clips: dict[str, Clip]) -> None:
    defects = {key: clip.defect.reason for key, clip in clips.items() if clip.defect}
    assert {key: reason for key, reason in defects.items() if reason not in ("no_metadata", "omitted")} == {
        "Track00001/S04": "not_rendered", "Track00003/S01": "missing_stem", "Track01876/S01": "known_bad",
    }  # fmt: skip
    assert {key[:10] for key, reason in defects.items() if reason == "no_metadata"} == {"Track01878"}
    assert {key[:10] for key, reason in defects.items() if reason == "omitted"} == {"Track01879"}
    assert clips["Track01879/mix"].group == clips["Track00001/mix"].group
    assert present(clips["Track00002/S00"]) == {"organ", "key"}  # a harmonica, says General MIDI
    assert clips["Track01502/mix"].partition == "validation"


def test_babyslakh_holds_the_first_tracks_as_wav_of_16_khz(
    tracks: tuple[sample.Track, ...], rendered: list[list[tuple[str, bytes]]], tmp_path: Path
) -> None:
    members = dict(sample.baby_members(tracks[: sample.BABY_TRACKS], rendered[: sample.BABY_TRACKS]))
    samples, rate = soundfile.read(io.BytesIO(members["babyslakh_16k/Track00001/stems/S00.wav"]))
    assert (rate, len(samples)) == (16_000, 128_000)
    files = archive_of(tmp_path / "baby.tar", members, "baby")
    songs = {recording.clips[0].recording[:10] for recording in slakh.read(files, Config(archive="baby"))}
    assert songs == {"Track00001", "Track00002"}


def test_many_tracks_have_numbers_of_their_own() -> None:
    tracks = sample.plan_tracks(0, 1200)
    assert len({track.number for track in tracks}) == len(tracks)
    assert len({track.uuid for track in tracks}) == len(tracks) - 1
