"""Pairs of MIDI and audio in a folder: what becomes of each, and what is said of those that are none."""

from pathlib import Path

import mido
import pytest
from midi_files import TICKS_PER_S, midi, note, off, on, program, tempo

from tutti.datasets.errors import UsageError
from tutti.datasets.record import Clip, Defect, Label, Media
from tutti.datasets.scores.score import Score, write_midi
from tutti.datasets.sources import musescore
from tutti.datasets.sources.musescore import Config, read, segments


def scale(seconds: float, pitch: int = 60, program: int = 0) -> Score:
    """One note a second."""
    return Score(tuple(note(float(n), n + 1.0, pitch, program) for n in range(int(seconds))), seconds)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one good pair; the reader never opens its audio."""
    put(tmp_path, "mid/7.mid", write_midi(scale(25)))
    put(tmp_path, "mp3/7.mp3", b"")
    return tmp_path


def put(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


def recordings_of(root: Path, **options):
    return list(read({}, Config(root=str(root), **options)))


def rows_of(root: Path, **options) -> dict[str, Clip]:
    return {clip.id: clip for recording in recordings_of(root, **options) for clip in recording.clips}


def defect_of(root: Path, id: str) -> Defect:
    clip = rows_of(root)[id]
    assert clip.defect is not None
    return clip.defect


# --- pairs


def test_a_pair_is_cut_into_segments_of_ten_seconds(root):
    (recording,) = recordings_of(root)

    assert recording.media == Media("musescore:mp3/7.mp3")
    assert [(clip.id, clip.start_s, clip.end_s, clip.declared_s) for clip in recording.clips] == [
        ("musescore/7@0", 0.0, 10.0, 10.0),
        ("musescore/7@10000", 10.0, 20.0, 10.0),
        ("musescore/7@20000", 20.0, 25.0, 5.0),
    ]
    assert {(clip.source, clip.recording, clip.group, clip.partition) for clip in recording.clips} == {
        ("musescore", "7", "musescore/7", "all")
    }
    assert recording.score == scale(25).notes


def test_notes_are_those_of_the_segment_in_its_own_seconds(root):
    clips = rows_of(root)

    assert clips["musescore/7@20000"].notes == tuple(note(float(n), n + 1.0, 60) for n in range(5))


def test_a_last_segment_below_a_second_is_left_out():
    assert segments(Score((note(0.0, 20.9),), 20.9), 10.0, 1.0) == [(0.0, 10.0), (10.0, 20.0)]
    assert segments(Score((note(0.0, 21.0),), 21.0), 10.0, 1.0) == [(0.0, 10.0), (10.0, 20.0), (20.0, 21.0)]


def test_a_score_ends_with_its_last_note_not_with_its_last_event():
    assert segments(Score((note(0.0, 10.0),), 300.0), 10.0, 1.0) == [(0.0, 10.0)]


def test_labels_follow_from_the_notes_of_each_segment(root):
    score = Score((note(0.0, 6.0, 60, 40), note(15.0, 18.0, 62, 73)), 20.0)
    put(root, "mid/7.mid", write_midi(score))

    first, second = rows_of(root).values()

    assert (first.labels["violin"], first.labels["flute"]) == (Label(1, "score"), Label(0, "score"))
    assert (second.labels["violin"], second.labels["flute"]) == (Label(0, "score"), Label(1, "score"))
    assert first.labels["cello"] == Label(0, "score")


def test_a_string_section_leaves_open_whether_there_are_violins(root):
    put(root, "mid/7.mid", write_midi(scale(10, program=48)))

    (clip,) = rows_of(root).values()

    assert "violin" not in clip.labels
    assert clip.labels["flute"] == Label(0, "score")


def test_audio_may_be_of_other_formats_and_capital_letters(root):
    put(root, "mid/8.MID", write_midi(scale(5)))
    put(root, "audio/8.FLAC", b"")

    assert [recording.media.url for recording in recordings_of(root)] == [
        "musescore:mp3/7.mp3", "musescore:audio/8.FLAC",
    ]  # fmt: skip


def test_other_files_and_folders_are_not_looked_at(root):
    put(root, "xml/9.xml", b"<score-partwise/>")
    put(root, "mid/list.txt", b"7")

    assert len(recordings_of(root)) == 1


def test_licence_and_lengths_can_be_set(root):
    clips = rows_of(root, license="CC0-1.0", segment_s=20.0, min_segment_s=6.0)

    assert [(clip.start_s, clip.end_s, clip.license) for clip in clips.values()] == [(0.0, 20.0, "CC0-1.0")]


def test_scores_have_any_of_their_suffixes_and_folders_any_case(root):
    for number, suffix in enumerate([".midi", ".kar", ".smf", ".rmi", ".RMID"]):
        put(root, f"Mid/{number}{suffix}", write_midi(scale(5)))
        put(root, f"MP3/{number}.mp3", b"")

    rows = rows_of(root)

    assert [id for id in rows if rows[id].start_s == 0] == [
        "musescore/0@0", "musescore/1@0", "musescore/2@0", "musescore/3@0", "musescore/4@0", "musescore/7@0",
    ]  # fmt: skip
    assert all(clip.defect is None for clip in rows.values())


def test_what_systems_leave_beside_files_is_passed_over_and_said(root):
    for name in ("mid/._7.mid", "mid/.DS_Store", "mp3/._7.mp3", "mp3/Thumbs.db", "mp3/desktop.ini"):
        put(root, name, b"\0\5\x16\7" + bytes(100))
    put(root, "mid/.DS_Store", b"")

    assert len(recordings_of(root)) == 1
    assert tuple(musescore.remarks(Config(root=str(root)))) == (
        "passed over 5 files that macOS, Windows or a NAS left behind: mid/.DS_Store, mid/._7.mid, mp3/._7.mp3, ...",
    )


def test_of_a_folder_of_pairs_alone_there_is_nothing_to_say(root):
    assert tuple(musescore.remarks(Config(root=str(root)))) == ()


def test_what_was_put_right_in_a_score_is_counted_in_all_its_rows(root):
    odd_key = mido.UnknownMetaMessage(0x59, data=(0xF8, 0), time=0)
    put(root, "mid/7.mid", midi([odd_key, on(60), off(60, 12 * TICKS_PER_S)]))

    assert [(clip.id, clip.score_repairs, clip.defect) for clip in rows_of(root).values()] == [
        ("musescore/7@0", 1, None), ("musescore/7@10000", 1, None),
    ]  # fmt: skip


# --- what is wrong with one


def test_a_score_without_audio_is_an_orphan(root):
    put(root, "mid/8.mid", write_midi(scale(5)))

    assert defect_of(root, "musescore/8@0") == Defect("orphan", detail="mid/8.mid: has no audio")


def test_files_of_an_orphans_name_are_named_with_what_is_looked_for(root):
    put(root, "mid/8.mid", write_midi(scale(5)))
    put(root, "mp3/8.ape", b"")
    put(root, "wav/8.wav", b"")
    put(root, "mp3/9.mp3", b"")
    put(root, "mid/9.mscz", b"")

    assert defect_of(root, "musescore/8@0").detail.startswith(
        "mid/8.mid: has no audio; mp3/8.ape, wav/8.wav: not looked for, which is .webm, .m4a, "
    )
    assert defect_of(root, "musescore/8@0").detail.endswith(" in mp3/ or audio/")
    assert defect_of(root, "musescore/9@0").detail == (
        "mp3/9.mp3: has no MIDI file; mid/9.mscz: not looked for, which is .mid, .midi, .kar, .smf, .rmi, .rmid in mid/"
    )


def test_audio_without_a_score_is_an_orphan(root):
    put(root, "mp3/8.mp3", b"")

    assert defect_of(root, "musescore/8@0") == Defect("orphan", detail="mp3/8.mp3: has no MIDI file")


def test_a_truncated_score_is_bad_and_the_others_are_well(root):
    data = write_midi(scale(5))
    put(root, "mid/8.mid", data[:-9])
    put(root, "mp3/8.mp3", b"")

    assert defect_of(root, "musescore/8@0") == Defect(
        "bad_score", detail=f"mid/8.mid: ends at byte {len(data) - 9} within an event or track; fetch it again"
    )
    assert rows_of(root)["musescore/7@0"].defect is None


def test_a_note_that_cannot_be_told_costs_the_excerpts_in_which_it_may_be_heard(root):
    data = midi([on(60), off(60, 12 * TICKS_PER_S), on(64), off(64, TICKS_PER_S), on(60), off(60, 12 * TICKS_PER_S)])
    put(root, "mid/7.mid", data.replace(bytes([0x90, 64, 64]), bytes([0x90, 200, 64])).replace(b"\x80@", b"\x80\xc8"))

    clips = rows_of(root)

    assert [clip.defect and (clip.defect.reason, clip.defect.value) for clip in clips.values()] == [
        None, ("pitch_range", 200.0), None
    ]  # fmt: skip


def test_a_score_without_notes_says_so(root):
    put(root, "mid/7.mid", midi([tempo(500_000, 960)]))

    assert defect_of(root, "musescore/7@0").reason == "no_notes"


def test_a_score_below_a_second_is_too_short(root):
    put(root, "mid/7.mid", midi([on(60), off(60, 480)]))

    assert defect_of(root, "musescore/7@0") == Defect("too_short", 0.5, "mid/7.mid: shorter than 1.0 s")


@pytest.mark.parametrize("pitch", [20, 109])
def test_a_note_outside_a_pianos_range_costs_its_segment(root, pitch):
    notes = [*scale(25).notes, note(12.5, 13.0, pitch)]
    put(root, "mid/7.mid", write_midi(Score(tuple(sorted(notes, key=lambda n: n.onset_s)), 25.0)))

    clips = rows_of(root)

    assert clips["musescore/7@10000"].defect == Defect(
        "pitch_range", float(pitch), f"1 notes outside 21 to 108, first {pitch} at 2.500 s of the excerpt"
    )
    assert [clips[f"musescore/7@{start}"].defect for start in (0, 20_000)] == [None, None]


@pytest.mark.parametrize("pitch", [21, 108])
def test_the_ends_of_a_piano_are_within_its_range(root, pitch):
    put(root, "mid/7.mid", write_midi(scale(5, pitch=pitch)))

    assert rows_of(root)["musescore/7@0"].defect is None


def test_percussion_has_no_pitch_that_could_be_wrong(root):
    put(root, "mid/7.mid", midi([on(12, channel=9), off(12, 1920, channel=9)]))

    assert rows_of(root)["musescore/7@0"].defect is None


# --- what is wrong with the folder


def test_without_a_folder_the_message_says_what_to_pass(tmp_path):
    with pytest.raises(UsageError, match=r"musescore: no root; pass --data-from DIR, where DIR holds mid/<id>\.mid"):
        list(read({}, Config()))
    with pytest.raises(UsageError, match="is not a folder; pass --data-from DIR"):
        recordings_of(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"has no mid/<id>\.mid; pass --data-from DIR"):
        recordings_of(tmp_path)


def test_two_files_of_one_id_are_named(root):
    put(root, "audio/7.wav", b"")

    with pytest.raises(UsageError, match=r"mp3/7\.mp3 and audio/7\.wav have one id; remove one of them"):
        recordings_of(root)


def test_a_least_length_above_the_length_is_refused():
    with pytest.raises(ValueError, match=r"min_segment_s 11\.0"):
        Config(min_segment_s=11.0)


def test_programs_reach_the_classes_of_the_source(root):
    put(root, "mid/7.mid", midi([program(40), on(60), off(60, 4800)]))

    (clip,) = rows_of(root).values()

    assert set(clip.labels) <= set(musescore.INSTRUMENTS)
    assert [name for name, label in clip.labels.items() if label.presence == 1] == ["violin"]
