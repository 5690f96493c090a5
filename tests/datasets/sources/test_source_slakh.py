"""The reader of Slakh: rows of mixes and stems, sounds by patch, official lists, and every fault of its songs."""

import json
from pathlib import Path
from typing import Any

import pytest
from slakh_archive import NO_PATCH, PIANO, archive_of, metadata, present, stem, track
from test_source_contract import mirror_files

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.hierarchy import OUTPUTS
from tutti.datasets.record import ABSENT, PRESENT, Clip, Media, Recording
from tutti.datasets.source import remotes_of
from tutti.datasets.sources import slakh
from tutti.datasets.sources.slakh import Config

UUID = "0123456789abcdef0123456789abcdef"


def read(path: Path, members: dict[str, bytes], **config: str) -> dict[str, Recording]:
    files = archive_of(path / "slakh.tar", members, config.get("archive", "redux"))
    recordings = list(slakh.read(files, Config(**config)))  # type: ignore[arg-type]
    found = {recording.clips[0].recording: recording for recording in recordings}
    assert len(found) == len(recordings)
    return found


def clips(path: Path, members: dict[str, bytes], **config: str) -> dict[str, Clip]:
    return {key: recording.clips[0] for key, recording in read(path, members, **config).items()}


def reasons(path: Path, members: dict[str, bytes], **config: str) -> dict[str, str]:
    found = clips(path, members, **config)
    return {key: clip.defect.reason for key, clip in found.items() if clip.defect is not None}


# --- rows


def test_a_track_is_a_row_for_its_mix_and_one_for_each_stem(tmp_path: Path) -> None:
    found = read(tmp_path, track(7, metadata(UUID.upper(), S00=PIANO, S03=stem(33, "pop_bass.nkm")), "S00", "S03"))
    assert list(found) == ["Track00007/mix", "Track00007/S00", "Track00007/S03"]
    mix, piano, bass = (recording.clips[0] for recording in found.values())
    assert (mix.id, mix.labels, mix.hierarchy) == ("slakh/Track00007/mix@0", {}, None)
    assert piano.track is not None
    assert (piano.track.song, piano.track.stem) == ("Track00007", "S00")
    assert (piano.track.instrument, piano.track.family, piano.track.bleed) == ("Acoustic Grand Piano", "key", False)
    assert present(piano) == {"piano", "key"}
    assert present(bass) == {"bass", "plucked_string", "electric_bass"}
    assert {clip.group for clip in (mix, piano, bass)} == {f"slakh/{UUID}"}
    assert {clip.license for clip in (mix, piano, bass)} == {"CC-BY-4.0"}
    assert found["Track00007/S03"].media.member == "slakh2100_flac_redux/train/Track00007/stems/S03.flac"


def test_all_that_a_stem_is_not_is_absent_from_it(tmp_path: Path) -> None:
    piano = clips(tmp_path, track(7, metadata(S00=PIANO), "S00"))["Track00007/S00"]
    assert {name: label.presence for name, label in piano.labels.items()} == {
        name: PRESENT if name == "piano" else ABSENT for name in slakh.INSTRUMENTS
    }
    assert piano.hierarchy is not None
    assert {name: label.presence for name, label in piano.hierarchy.items()} == {
        name: PRESENT if name in ("key", "piano") else ABSENT for name in OUTPUTS
    }
    assert {label.origin for label in (*piano.labels.values(), *piano.hierarchy.values())} == {"score"}


def test_without_a_mix_the_stems_that_are_well_add_up_to_it(tmp_path: Path) -> None:
    members = track(357, metadata(S00=PIANO, S01=PIANO, S03=PIANO), "S00", "S01", "S03", mix=False)
    mix = read(tmp_path, members)["Track00357/mix"]  # S03 is on the list of bad stems
    assert mix.media == Media("sum:slakh/Track00357")
    stems = "slakh2100_flac_redux/train/Track00357/stems"
    assert [part.member for part in mix.parts] == [f"{stems}/S00.flac", f"{stems}/S01.flac"]


def test_a_track_without_a_readable_uuid_is_a_group_of_its_own(tmp_path: Path) -> None:
    members = track(1, metadata("", S00=PIANO), "S00") | track(2, metadata("../x", S00=PIANO), "S00")
    groups = {clip.group for clip in clips(tmp_path, members).values()}
    assert groups == {"slakh/Track00001", "slakh/Track00002"}


def test_two_tracks_of_one_midi_file_are_one_group_however_its_uuid_is_spelled(tmp_path: Path) -> None:
    spelled = f"{UUID[:8]}-{UUID[8:]}".upper()
    members = track(1, metadata(UUID, S00=PIANO), "S00") | track(2, metadata(spelled, S00=PIANO), "S00")
    assert {clip.group for clip in clips(tmp_path, members).values()} == {f"slakh/{UUID}"}


# --- stems that are not there, or not well


def test_the_file_system_says_what_is_there_and_the_flag_only_why_something_is_not(tmp_path: Path) -> None:
    stems: dict[str, Any] = {
        "S00": PIANO | {"audio_rendered": False},  # mirdata's copy of babyslakh: every flag is false
        "S01": PIANO | {"audio_rendered": False},
        "S02": PIANO,
        "S03": NO_PATCH,
        "S04": NO_PATCH | {"audio_rendered": True},
        "S05": {"program_num": 0},
    }
    found = clips(tmp_path, track(7, metadata(**stems), "S00"))
    defects = {clip.track.stem: clip.defect for clip in found.values() if clip.track and clip.defect}
    assert {name: defect.reason for name, defect in defects.items()} == {
        "S01": "not_rendered", "S02": "missing_stem", "S03": "not_rendered", "S04": "not_rendered",
        "S05": "missing_stem",
    }  # fmt: skip
    assert defects["S02"].detail == "Track00007/S02: metadata.yaml names it, but there is no file"
    assert defects["S03"].detail == "Track00007/S03: there is no patch for its program"


@pytest.mark.parametrize("number", [446, 487, 590, 1009, 1672, 1740, 1794])
def test_the_seven_missing_stems_are_missing_whatever_their_flag_says(number: int, tmp_path: Path) -> None:
    for flag in (True, False):
        members = track(number, metadata(S00=PIANO | {"audio_rendered": flag}, S01=PIANO), "S01")
        assert reasons(tmp_path, members, splits="orig") == {f"Track{number:05}/S00": "missing_stem"}


def test_bad_stems_that_upstream_lists_are_rejected_with_what_is_wrong(tmp_path: Path) -> None:
    bad = clips(tmp_path, track(377, metadata(S07=PIANO, S08=PIANO), "S07", "S08"))["Track00377/S07"]
    assert bad.defect is not None
    assert (bad.defect.reason, bad.defect.detail) == ("known_bad", "Track00377/S07: white noise, upstream says")
    assert present(bad) == {"piano", "key"}  # so that the mix does not say that there is no piano


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "metadata.yaml: is empty"),
        (b"{{{", "is no YAML"),
        (b"- a list", "is no mapping"),
        (b"UUID: x", "names no stems"),
        (b"stems: None", "names no stems"),
        (b"stems: {}", "names no stems"),
        (b"stems: [S00]", "names no stems"),
        (b"stems: {../../S00: {}}", r"names a stem '../../S00'"),
        (b"a: &a [x]\nb: *a", "alias"),
        (b"\xff\xfe\x00", "is no YAML"),
        (b"x: " + b"y" * (1 << 20), "at most 1,048,576 are read"),
        (b"stems: " + b"[" * 50_000, "is no YAML"),
        (None, "has no metadata.yaml"),
    ],
    ids=range(13),
)
def test_a_song_without_metadata_is_passed_over_file_by_file_and_the_next_is_read(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    members = track(1, content, "S00", "S01") | track(2, metadata(S00=PIANO), "S00")
    found = clips(tmp_path, members)
    lost = ["Track00001/mix", "Track00001/S00", "Track00001/S01"]
    assert list(found) == [*lost, "Track00002/mix", "Track00002/S00"]
    for key in lost:
        defect = found[key].defect
        assert defect is not None
        assert defect.reason == "no_metadata"
        assert message in defect.detail
    assert found["Track00002/S00"].defect is None


@pytest.mark.parametrize("fields", ["null", "[]", "x", "{}"])
def test_a_stem_of_which_nothing_is_said_is_rejected_alone(fields: str, tmp_path: Path) -> None:
    content = b"stems:\n  S00: {program_num: 0}\n  S01: " + fields.encode()
    assert reasons(tmp_path, track(1, content, "S00", "S01", "S02")) == {
        "Track00001/S01": "no_metadata", "Track00001/S02": "no_metadata",
    }  # fmt: skip


@pytest.mark.parametrize("program", ["", "null", "-1", "1.0", "129", "1e3", "\u0661", "9" * 5000, "[0]"])
def test_an_unknown_program_leaves_a_row_without_labels(program: str, tmp_path: Path) -> None:
    content = f"stems:\n  S00: {{program_num: {program}, plugin_name: new_patch.nkm}}".encode()
    clip = clips(tmp_path, track(1, content, "S00"))["Track00001/S00"]
    assert (clip.defect, clip.labels, clip.hierarchy) == (None, {}, {})
    assert clip.track is not None
    assert clip.track.family is None


def test_long_and_hostile_words_of_metadata_are_shortened_and_written_out(tmp_path: Path) -> None:
    fields = PIANO | {"midi_program_name": "\x1b[2J" + "x" * 5000}
    clip = clips(tmp_path, track(1, metadata(S00=fields), "S00"))["Track00001/S00"]
    assert clip.track is not None
    assert clip.track.instrument == "\\x1b[2J" + "x" * 76


def test_names_that_are_no_places_of_slakh_are_ignored(tmp_path: Path) -> None:
    good = track(1, metadata(S00=PIANO), "S00")
    place = "slakh2100_flac_redux/train/Track00001"
    others = (
        f"{place}/stems/._S00.flac",
        f"{place}/stems/S00.mp3",
        f"{place}/MIDI/S05.mid",
        f"{place}/stems/x/S04.flac",
    )
    assert list(clips(tmp_path, good | dict.fromkeys(others, b""))) == ["Track00001/mix", "Track00001/S00"]


def test_a_track_in_two_folders_or_an_archive_without_tracks_is_refused(tmp_path: Path) -> None:
    twice = track(1, metadata(S00=PIANO), "S00") | track(1, metadata(S00=PIANO), "S00", folder="test/")
    with pytest.raises(IntegrityError, match="Track00001 is in train and in test; download the archive again"):
        read(tmp_path, twice)
    with pytest.raises(IntegrityError, match=r"slakh2100_flac_redux\.tar\.gz: holds no folder TrackNNNNN of Slakh"):
        read(tmp_path, {"README": b""})


# --- divisions


def partitions(path: Path, members: dict[str, bytes], **config: str) -> dict[str, str]:
    return {key[:10]: clip.partition for key, clip in clips(path, members, **config).items()}


def test_the_division_is_by_folder_by_number_or_by_the_list_of_moves(tmp_path: Path) -> None:
    members = {
        **track(3, metadata(S00=PIANO), "S00"),
        **track(1502, metadata(S00=PIANO), "S00", folder="validation/"),
        **track(1879, metadata(S00=PIANO), "S00", folder="omitted/"),
    }
    tracks = ("Track00003", "Track01502", "Track01879")
    for splits, expected in (
        ("redux", ("train", "validation", "omitted")),
        ("orig", ("train", "validation", "test")),
        ("split2", ("test", "validation", "train")),
    ):
        assert partitions(tmp_path, members, splits=splits) == dict(zip(tracks, expected, strict=True)), splits
    assert set(reasons(tmp_path, members)) == {"Track01879/mix", "Track01879/S00"}
    assert set(reasons(tmp_path, members).values()) == {"omitted"}
    assert reasons(tmp_path, members, splits="orig") == {}


def test_babyslakh_has_no_folders_of_splits_and_is_divided_by_the_lists(tmp_path: Path) -> None:
    baby = {
        name.replace("slakh2100_flac_redux", "babyslakh_16k").replace(".flac", ".wav"): content
        for name, content in (
            track(3, metadata(S00=PIANO), "S00", folder="") | track(49, metadata(S00=PIANO), "S00", folder="")
        ).items()
    }
    assert partitions(tmp_path, baby, archive="baby") == {"Track00003": "train", "Track00049": "omitted"}
    assert partitions(tmp_path, baby, archive="baby", splits="split2") == {"Track00003": "test", "Track00049": "train"}


def test_only_the_archive_that_is_read_is_downloaded() -> None:
    assert [remote.name for remote in remotes_of("slakh", Config())] == ["redux"]
    assert [remote.name for remote in remotes_of("slakh", Config(archive="baby"))] == ["baby"]


@pytest.mark.parametrize(("name", "value"), [("archive", "full"), ("splits", "split3")])
def test_a_setting_that_does_not_exist_is_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"slakh: {name}='{value}'; choose one of"):
        Config(**{name: value})  # type: ignore[arg-type]


# --- upstream's own files


@pytest.fixture
def official(shared: Path) -> Path:
    folder = shared / "multitrack" / "labels" / "slakh"
    if not folder.is_dir():
        pytest.skip("the shared folder holds no labels of Slakh")
    return folder


def test_the_real_metadata_of_track_1_is_read_in_both_copies(official: Path, tmp_path: Path) -> None:
    names = [f"S{number:02}" for number in range(11) if number != 6]
    heard = {
        "S00": {"plucked_string", "electric_guitar"}, "S01": {"percussion", "drums"}, "S02": {"key", "piano"},
        "S03": {"plucked_string", "electric_bass", "bass"}, "S04": {"voice"}, "S05": {"key", "organ"},
        "S07": {"plucked_string", "electric_guitar"}, "S08": {"plucked_string", "electric_guitar"},
        "S09": {"key", "organ"}, "S10": {"key", "organ"},  # General MIDI says harmonica
    }  # fmt: skip
    for copy in ("redux", "babyslakh"):
        content = (official / "real_Track00001_mirdata" / f"metadata.{copy}.yaml").read_bytes()
        found = clips(tmp_path, track(1, content, *names))
        assert {clip.group for clip in found.values()} == {"slakh/1a81ae092884234f3264e2f45927f00a"}
        assert {
            key[-3:]: present(clip) for key, clip in found.items() if clip.defect is None and key[-3:] != "mix"
        } == heard
        assert [key for key, clip in found.items() if clip.defect] == ["Track00001/S06"]


def test_the_mirror_of_real_layouts_is_read(shared: Path, tmp_path: Path) -> None:
    if not (shared / "multitrack" / "mirror").is_dir():
        pytest.skip("the shared folder has no mirror of multitrack corpora")
    truth = json.loads((shared / "multitrack" / "mirror" / "TRUTH.json").read_text())["slakh"]
    files = mirror_files("slakh", Config(), shared, tmp_path)
    found = {recording.clips[0].recording: recording.clips[0] for recording in slakh.read(files, Config())}
    reasons = {key: clip.defect.reason for key, clip in found.items() if clip.defect}
    assert {key: reason for key, reason in reasons.items() if reason != "omitted"} == {
        "Track00001/S04": "not_rendered", "Track00005/S05": "not_rendered", "Track00004/S02": "missing_stem",
        "Track01876/S01": "known_bad",
        "Track01878/mix": "no_metadata", "Track01878/S00": "no_metadata", "Track01878/S01": "no_metadata",
        "Track01878/S02": "no_metadata", "Track01878/S03": "no_metadata", "Track01878/S04": "no_metadata",
    }  # fmt: skip
    assert {key for key, reason in reasons.items() if reason == "omitted"} == {
        f"Track01879/{name}" for name in ("mix", "S00", "S01", "S02", "S03", "S04")
    }
    for name, facts in truth["tracks"].items():
        if name != "Track01878":
            assert found[f"{name}/mix"].group == f"slakh/{facts['uuid']}"
            assert found[f"{name}/mix"].partition == facts["split"]
