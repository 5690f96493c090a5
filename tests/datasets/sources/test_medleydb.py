"""Songs of MedleyDB in a folder: which rows they give, and what each fault costs."""

import csv
import re
from pathlib import Path

import pytest
from medley_songs import clips_of, present, put, reasons, recordings_of, track_of, write_song

from tutti.datasets.hierarchy import OUTPUTS
from tutti.datasets.record import ABSENT, PRESENT, Label, Media, Sounding, Track
from tutti.datasets.sources.medleydb import SOUNDS

# --- rows


def test_a_song_gives_a_row_for_each_stem_and_one_for_the_mix(tmp_path):
    stems = {"S01": "female singer", "S02": "acoustic guitar"}
    write_song(tmp_path / "Audio", "LizNelson_Rainfall", stems, artist="Liz Nelson", album="Sketches")
    found = recordings_of(tmp_path)

    assert {id: recording.media for id, recording in found.items()} == {
        "medleydb/LizNelson_Rainfall/S01@0": Media(
            "medleydb/0:Audio/LizNelson_Rainfall/LizNelson_Rainfall_STEMS/LizNelson_Rainfall_STEM_01.wav"
        ),
        "medleydb/LizNelson_Rainfall/S02@0": Media(
            "medleydb/0:Audio/LizNelson_Rainfall/LizNelson_Rainfall_STEMS/LizNelson_Rainfall_STEM_02.wav"
        ),
        "medleydb/LizNelson_Rainfall/MIX@0": Media("medleydb/0:Audio/LizNelson_Rainfall/LizNelson_Rainfall_MIX.wav"),
    }
    singer = found["medleydb/LizNelson_Rainfall/S01@0"].clips[0]
    assert singer.track == Track(
        "LizNelson_Rainfall", "S01", "female singer", "voice", "Liz Nelson", "liznelson", "Sketches", bleed=False
    )
    assert (singer.group, singer.recording) == ("medleydb/LizNelson_Rainfall", "LizNelson_Rainfall/S01")
    assert (singer.license, singer.partition) == ("CC-BY-NC-SA-4.0", "v1")
    assert present(singer) == (["voice"], ["voice", "singer"])
    assert {label.presence for name, label in singer.labels.items() if name != "voice"} == {ABSENT}
    mix = found["medleydb/LizNelson_Rainfall/MIX@0"].clips[0]
    assert mix.track == Track(
        "LizNelson_Rainfall", None, artist="Liz Nelson", artist_group="liznelson", album="Sketches"
    )
    assert mix.labels == {}


@pytest.mark.parametrize("folder", ["Audio", "V1", "MedleyDB_V1/V1", "deep/er/MedleyDB/Audio", "."])
def test_songs_are_found_at_any_depth(folder, tmp_path):
    write_song(tmp_path / folder, "A_B", {"S01": "piano"})

    assert list(clips_of(tmp_path)) == ["medleydb/A_B/S01@0", "medleydb/A_B/MIX@0"]


def test_the_folder_given_may_be_the_song_itself(tmp_path):
    home = write_song(tmp_path, "A_B", {"S01": "piano"})

    assert list(clips_of(home)) == ["medleydb/A_B/S01@0", "medleydb/A_B/MIX@0"]


def test_lists_of_songs_name_only_the_partition(tmp_path):
    for key in ("AClassicEducation_NightOwl", "Allegria_MendelssohnMovement1", "Nobody_Knows"):
        write_song(tmp_path, key, {"S01": "piano"})

    assert {clip.track.song: clip.partition for clip in clips_of(tmp_path).values() if clip.track} == {
        "AClassicEducation_NightOwl": "v1",
        "Allegria_MendelssohnMovement1": "v2",
        "Nobody_Knows": "other",
    }


def test_several_folders_are_read_together(tmp_path):
    write_song(tmp_path / "disk1" / "V1", "A_One", {"S01": "piano"}, yaml_in=tmp_path / "git" / "Metadata")
    write_song(tmp_path / "disk2" / "V2", "B_Two", {"S01": "piano"}, yaml_in=tmp_path / "git" / "Metadata")
    found = recordings_of(tmp_path / "disk1", tmp_path / "disk2", tmp_path / "git")

    assert [recording.media.url.partition(":")[0] for recording in found.values()] == ["medleydb/0"] * 2 + [
        "medleydb/1"
    ] * 2
    assert reasons({id: recording.clips[0] for id, recording in found.items()}) == {}


def test_a_song_that_is_there_twice_is_read_once_from_the_fuller_copy(tmp_path):
    write_song(tmp_path / "a", "A_B", {"S01": "piano", "S02": "flute"}, audio={"A_B_STEM_01.wav": b""})
    write_song(tmp_path / "b", "A_B", {"S01": "piano", "S02": "flute"})
    found = recordings_of(tmp_path / "a", tmp_path / "b")

    assert [recording.media.url.partition(":")[0] for recording in found.values()] == ["medleydb/1"] * 3


def test_songs_of_mixing_secrets_beside_are_not_medleydbs(tmp_path):
    write_song(tmp_path, "A_B", {"S01": "piano"})
    write_song(tmp_path, "C_D", {"S01": "piano"}, origin="Mixing Secrets", version="3.0")
    write_song(tmp_path, "E_F", {"S01": "piano"}, version="3.0")

    assert {clip.track.song for clip in clips_of(tmp_path).values() if clip.track} == {"A_B"}


def test_the_metadata_nearest_to_the_audio_count(tmp_path):
    write_song(tmp_path / "MedleyDB" / "Audio", "A_B", {"S01": "piano"}, yaml_in=tmp_path / "MedleyDB" / "Metadata")
    write_song(tmp_path / "Other" / "Audio", "A_B", {"S01": "flute"}, origin="Mixing Secrets", version="3.0")

    assert [clip.track.instrument for clip in clips_of(tmp_path).values() if clip.track] == ["piano", None]


# --- labels


def test_the_table_of_instruments_says_what_the_facts_say(shared):
    with (shared / "multitrack" / "mapping.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["corpus"] == "medleydb"]
    assert len(rows) == 123
    assert {row["name"] for row in rows} == SOUNDS.keys()
    for row in rows:
        sound, note = SOUNDS[row["name"]], row["note"]
        expected = dict.fromkeys(OUTPUTS, ABSENT)
        found = re.search(r"mask=([a-z_,]+)(?! is a| if unsure)", note.replace("percussion if", "percussion  if"))
        masked = found[1].split(",") if found and "if unsure" not in note and "defensible" not in note else []
        for name in OUTPUTS if masked == ["all"] else masked if "may mask" not in note else []:
            del expected[name]
        for name in filter(None, (row["family"], row["instrument15"])):
            expected[name] = PRESENT
        assert sound.outputs() == expected, row
        assert (sound.instrument or "") == row["project_instrument"], row


def test_in_a_drum_set_cymbals_may_sound_and_in_a_section_any_of_its_kind():
    assert "cymbals" not in SOUNDS["drum set"].classes()
    assert "trumpet" not in SOUNDS["brass section"].classes()
    assert SOUNDS["kick drum"].classes()["cymbals"] == ABSENT


def test_of_a_list_of_instruments_all_sound(tmp_path):
    write_song(
        tmp_path, "A_B", {"S01": ["trumpet", "trombone"], "S02": ["piano", "violin"], "S03": ["piano", "Main System"]}
    )
    clips = clips_of(tmp_path)

    brass, two, unsure = (clips[f"medleydb/A_B/S0{number}@0"] for number in (1, 2, 3))
    assert present(brass) == (["trombone", "trumpet"], ["brass"])
    assert track_of(brass).instrument == "trumpet, trombone"
    assert track_of(brass).family == "brass"
    assert present(two) == (["piano", "violin"], ["bowed_string", "key", "violin", "piano"])
    assert track_of(two).family is None
    assert two.labels["flute"] == Label(ABSENT, "human")
    assert set(unsure.labels) == {"piano"}  # whatever else the microphones hear is unknown


@pytest.mark.parametrize("instrument", ["Main System", "fx/processed sound", "hurdy gurdy", "''", "null", "[]", "{}"])
def test_what_is_no_known_instrument_has_no_labels_and_stays(instrument, tmp_path):
    write_song(tmp_path, "A_B", {"S01": instrument})
    clip = clips_of(tmp_path)["medleydb/A_B/S01@0"]

    assert (clip.labels, clip.hierarchy, clip.defect) == ({}, {}, None)


@pytest.mark.parametrize(
    ("flag", "bleed"), [("yes", True), ("'yes'", True), ("no", False), ("'no'", False), ("''", True), ("perhaps", True)]
)
def test_with_bleed_what_is_not_named_is_unknown(flag, bleed, tmp_path):
    write_song(tmp_path, "A_B", {"S01": "piano"}, has_bleed=flag)
    clip = clips_of(tmp_path)["medleydb/A_B/S01@0"]

    assert track_of(clip).bleed is bleed
    assert present(clip) == (["piano"], ["key", "piano"])
    assert (len(clip.labels) > 1, len(clip.hierarchy or {}) > 2) == (not bleed, not bleed)


def test_bleed_that_the_errata_name_counts_for_those_stems(tmp_path):
    write_song(tmp_path, "LizNelson_ImComingHome", {"S01": "piano", "S02": "female singer"})
    clips = clips_of(tmp_path)

    assert [clip.track.bleed for clip in clips.values() if clip.track and clip.track.stem] == [False, True]


# --- artists


def artist_groups_of(root: Path) -> dict[str, str | None]:
    return {clip.track.song: clip.track.artist_group for clip in clips_of(root).values() if clip.track}


def test_spellings_of_an_artist_are_one_group(tmp_path):
    write_song(tmp_path, "HopsNVinyl_One", {"S01": "piano"}, artist="Hops 'n Vinyl")
    write_song(tmp_path, "HopsNVinyl_Two", {"S01": "piano"}, artist="Hops \u2019n Vinyl")
    write_song(tmp_path, "Sweat_One", {"S01": "piano"}, artist="SWEAT")

    assert artist_groups_of(tmp_path) == {
        "HopsNVinyl_One": "hopsnvinyl", "HopsNVinyl_Two": "hopsnvinyl", "Sweat_One": "sweat",
    }  # fmt: skip


def test_prefix_and_artist_are_joined_and_all_that_either_is_joined_to(tmp_path):
    write_song(tmp_path, "Mozart_A", {"S01": "piano"}, artist="NYU")
    write_song(tmp_path, "Wolf_B", {"S01": "piano"}, artist="NYU")
    write_song(tmp_path, "Guest_C", {"S01": "piano"}, artist="Wolf")
    write_song(tmp_path, "Other_D", {"S01": "piano"}, artist="Other")

    assert artist_groups_of(tmp_path) == {
        "Mozart_A": "guest",
        "Wolf_B": "guest",
        "Guest_C": "guest",
        "Other_D": "other",
    }


# --- annotations


def test_activations_say_when_each_stem_sounds(tmp_path):
    write_song(tmp_path, "A_B", {"S01": "piano", "S02": "flute", "S03": "violin"})
    table = "time,S01,S02\n0.0000,0.9,0.1\n0.0464,0.5,0.2\n0.0929,0.4,0.7\n0.1393,0.6,0.8\n"
    put(tmp_path, "Annotations/Activation_Confidence/v2/A_B_ACTIVATION_CONF.lab", table.encode())
    put(tmp_path, "Annotations/Activation_Confidence/original/A_B_ACTIVATION_CONF.lab", b"time,S01,S02\n0.0,0,0\n")
    clips = clips_of(tmp_path)

    assert clips["medleydb/A_B/S01@0"].sounding == (Sounding("S01", ((0.0, 0.09284), (0.1393, 0.18574))),)
    assert clips["medleydb/A_B/S02@0"].sounding == (Sounding("S02", ((0.0929, 0.18574),)),)
    assert clips["medleydb/A_B/S03@0"].sounding is None  # not annotated: measured
    assert clips["medleydb/A_B/MIX@0"].sounding is None


def test_source_ids_say_it_of_instruments_that_one_stem_alone_has(tmp_path):
    write_song(tmp_path, "A_B", {"S01": "piano", "S02": "flute", "S03": "flute"})
    table = "start_time,end_time,instrument_label\n0.5,1.5,piano\n2.0,3.0,piano\n0.0,9.0,flute\n1.0,2.0,piano\n"
    put(tmp_path, "Source_ID/A_B_SOURCEID.lab", table.encode())

    assert [clip.sounding for clip in clips_of(tmp_path).values()] == [
        (Sounding("S01", ((0.5, 3.0),)),), None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "table",
    ["", "S01\n0\n", "time,S01\n0.0\n", "time,S01\n0.0,nan\n", "time,S01\n1,0\n0,0\n", "time,S01\n-1,0\n", "\x00", '"'],
)
def test_broken_annotations_are_no_fault_of_the_audio(table, tmp_path, caplog):
    write_song(tmp_path, "A_B", {"S01": "piano"})
    put(tmp_path, "A_B_ACTIVATION_CONF.lab", table.encode())
    clip = clips_of(tmp_path)["medleydb/A_B/S01@0"]

    assert (clip.sounding, clip.defect) == (None, None)
    assert "A_B: A_B_ACTIVATION_CONF.lab" in caplog.text
