"""Faults of songs in Medley format: what each costs, and that no name in metadata leads anywhere."""

import pytest
from medley_songs import clips_of, metadata, present, put, reasons, recordings_of, write_song

from tutti.datasets.errors import UsageError
from tutti.datasets.record import Defect, Media
from tutti.datasets.sources import medleydb
from tutti.datasets.sources.medleydb import Config


def test_a_stem_that_is_named_but_not_there_is_missing(tmp_path):
    write_song(tmp_path, "A_B", {"S01": "piano", "S02": "flute"}, audio={"A_B_STEM_01.wav": b""})
    clips = clips_of(tmp_path)

    assert reasons(clips) == {"medleydb/A_B/S02@0": "missing_stem"}
    missing = clips["medleydb/A_B/S02@0"]
    assert missing.defect == Defect("missing_stem", detail="A_B, S02: A_B_STEM_02.wav is not there")
    assert present(missing) == (["flute"], ["woodwind"])  # so that its song knows what it lacks


def test_a_file_that_metadata_do_not_name_has_none(tmp_path):
    write_song(tmp_path, "A_B", {"S01": "piano"}, audio={"A_B_STEM_01.wav": b"", "A_B_STEM_07.wav": b""})
    clips = clips_of(tmp_path)

    assert reasons(clips) == {"medleydb/A_B/S07@0": "no_metadata"}


BROKEN = {
    "empty": b"",
    "null": b"null\n",
    "a list": b"- a\n- b\n",
    "no stems": b"artist: A\ntitle: B\n",
    "stems null": b"artist: A\nstems:\n",
    "no YAML": b"stems: {S01: [",
    "binary": bytes(range(256)),
    "an alias": b"a: &x [1]\nstems: {S01: *x}\n",
    "huge": b"#" * (1 << 20) + b"\nstems: {}\n",
    "many stems": b"stems: {" + b", ".join(b"S%d: {}" % number for number in range(2000)) + b"}",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_without_readable_metadata_each_file_of_a_song_says_so_and_others_go_on(content, tmp_path):
    home = write_song(tmp_path, "A_B", {"S01": "piano", "S02": "flute"})
    put(home, "A_B_METADATA.yaml", content)
    write_song(tmp_path, "C_D", {"S01": "piano"})
    clips = clips_of(tmp_path)

    assert reasons(clips) == dict.fromkeys(
        ("medleydb/A_B/S01@0", "medleydb/A_B/S02@0", "medleydb/A_B/MIX@0"), "no_metadata"
    )
    assert {"medleydb/C_D/S01@0", "medleydb/C_D/MIX@0"} < clips.keys()


def test_without_a_metadata_file_a_song_says_so(tmp_path):
    (write_song(tmp_path, "A_B", {"S01": "piano"}) / "A_B_METADATA.yaml").unlink()

    assert {clip.defect.detail for clip in clips_of(tmp_path).values() if clip.defect} == {
        "A_B, A_B_STEM_01.wav: A_B_METADATA.yaml: is not there",
        "A_B, A_B_MIX.wav: A_B_METADATA.yaml: is not there",
    }


@pytest.mark.parametrize(
    "name", ["../../secret.wav", "/etc/passwd", "C:\\x.wav", "..", "A_B_STEM_1.wav", "", "null", "[a, b]"]
)
def test_a_wrong_file_name_is_never_followed_and_the_number_finds_the_stem(name, tmp_path):
    put(tmp_path, "secret.wav")
    write_song(
        tmp_path / "x" / "y", "A_B", {"S01": "piano"}, audio={"A_B_STEM_01.wav": b""}, files={"S01": f"'{name}'"}
    )
    found = recordings_of(tmp_path)

    assert found["medleydb/A_B/S01@0"].media.url == "medleydb/0:x/y/A_B/A_B_STEMS/A_B_STEM_01.wav"
    assert set(found) == {"medleydb/A_B/S01@0", "medleydb/A_B/MIX@0"}


def test_a_path_in_metadata_whose_stem_is_missing_does_not_enter_a_row(tmp_path):
    write_song(tmp_path, "A_B", {"S01": "piano"}, audio={}, files={"S01": "/home/someone/A_B_STEM_01.wav"})

    assert "someone" not in repr(recordings_of(tmp_path))


def test_two_stems_of_one_file_name_are_not_one_stem(tmp_path):
    write_song(
        tmp_path,
        "A_B",
        {"S01": "piano", "S02": "flute"},
        files={"S02": "A_B_STEM_01.wav"},
        audio={"A_B_STEM_01.wav": b""},
    )

    assert reasons(clips_of(tmp_path)) == {"medleydb/A_B/S02@0": "missing_stem"}


def test_keys_of_stems_that_are_no_names_are_numbered(tmp_path):
    home = write_song(tmp_path, "A_B", {"S01": "piano"})
    put(
        home, "A_B_METADATA.yaml", b"stems: {'../x': {filename: A_B_STEM_01.wav, instrument: piano}, MIX: {}, S03: 7}\n"
    )

    assert list(clips_of(tmp_path)) == [
        "medleydb/A_B/stem1@0", "medleydb/A_B/stem2@0", "medleydb/A_B/S03@0", "medleydb/A_B/MIX@0",
    ]  # fmt: skip


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    outside = write_song(tmp_path / "outside", "C_D", {"S01": "piano"})
    root = tmp_path / "root"
    home = write_song(root, "A_B", {"S01": "piano", "S02": "flute"})
    (home / "A_B_STEMS" / "A_B_STEM_02.wav").unlink()
    (home / "A_B_STEMS" / "A_B_STEM_02.wav").symlink_to(outside / "C_D_MIX.wav")
    (root / "C_D").symlink_to(outside, target_is_directory=True)
    (root / "loop").symlink_to(root, target_is_directory=True)

    assert reasons(clips_of(root)) == {"medleydb/A_B/S02@0": "missing_stem"}
    assert {clip.track.song for clip in clips_of(root).values() if clip.track} == {"A_B"}


def test_a_link_within_the_folder_is_a_file_of_it(tmp_path):
    home = write_song(tmp_path, "A_B", {"S01": "piano"}, audio={})
    put(tmp_path, "store/one.wav")
    (home / "A_B_STEMS").mkdir()
    (home / "A_B_STEMS" / "A_B_STEM_01.wav").symlink_to(tmp_path / "store" / "one.wav")

    assert reasons(clips_of(tmp_path)) == {}


def test_what_a_mac_leaves_beside_files_is_no_stem(tmp_path):
    home = write_song(tmp_path, "A_B", {"S01": "piano"})
    put(home, "A_B_STEMS/._A_B_STEM_01.wav")
    put(home, "._A_B_METADATA.yaml")

    assert reasons(clips_of(tmp_path)) == {}


def test_a_stem_in_another_codec_is_the_stem(tmp_path):
    write_song(tmp_path, "A_B", {"S01": "piano"}, audio={"A_B_STEM_01.flac": b""})

    assert recordings_of(tmp_path)["medleydb/A_B/S01@0"].media.url.endswith("A_B_STEM_01.flac")


def test_without_a_mix_the_stems_are_summed_but_for_those_that_are_not_there(tmp_path):
    write_song(tmp_path, "A_B", {"S01": "piano", "S02": "flute"}, audio={"A_B_STEM_02.wav": b""}, mix=None)
    found = recordings_of(tmp_path)

    mix = found["medleydb/A_B/MIX@0"]
    assert mix.media == Media("sum:medleydb/A_B/MIX")
    assert mix.parts == (Media("medleydb/0:A_B/A_B_STEMS/A_B_STEM_02.wav"),)


def test_metadata_without_audio_are_counted_and_passed_over(tmp_path):
    write_song(tmp_path / "Audio", "A_B", {"S01": "piano"})
    for key in ("C_D", "E_F"):
        put(tmp_path, f"Metadata/{key}_METADATA.yaml", metadata(key, {"S01": "piano"}).encode())
    config = Config(roots=(str(tmp_path),))

    assert [(one.kind, one.name, one.num_files) for one in medleydb.inputs(config)] == [
        ("metadata", "1 songs", 1),
        ("passed_over", "metadata of songs without audio", 2),
    ]


def test_inputs_change_with_the_metadata_and_not_with_the_place(tmp_path):
    write_song(tmp_path / "a" / "Audio", "A_B", {"S01": "piano"})
    write_song(tmp_path / "b" / "V1", "A_B", {"S01": "piano"})
    write_song(tmp_path / "c" / "V1", "A_B", {"S01": "flute"})
    here, there, other = (medleydb.inputs(Config(roots=(str(tmp_path / name),))) for name in "abc")

    assert here == there
    assert here != other


def test_a_folder_without_songs_is_a_usage_error_with_the_remedy(tmp_path):
    put(tmp_path, "Metadata/A_B_METADATA.yaml", metadata("A_B", {"S01": "piano"}).encode())

    with pytest.raises(UsageError, match=r"medleydb: no song of MedleyDB in .*; pass the folder that holds its audio"):
        clips_of(tmp_path)
    with pytest.raises(UsageError, match="medleydb: no folder; pass --data-from DIR"):
        clips_of()


def test_folders_that_overlap_are_as_one(tmp_path):
    write_song(tmp_path / "MedleyDB" / "Audio", "A_B", {"S01": "piano"})
    put(tmp_path, "MedleyDB/Annotations/A_B_ACTIVATION_CONF.lab", b"time,S01\n0.0,1.0\n")
    one = Config(roots=(str(tmp_path),))
    both = Config(roots=(str(tmp_path / "MedleyDB"), str(tmp_path)))

    assert medleydb.inputs(one) == medleydb.inputs(both)
    assert [clip.id for clip in clips_of(tmp_path).values()] == [
        clip.id for clip in clips_of(tmp_path / "MedleyDB", tmp_path).values()
    ]
