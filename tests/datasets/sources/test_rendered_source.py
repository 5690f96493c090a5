"""The source of rendered music: addresses, labels from notes, and what it says of folders it cannot use."""

from pathlib import Path

import pytest

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import ABSENT, DRUMS, PRESENT, Label, Note
from tutti.datasets.scores.composing import compose
from tutti.datasets.scores.general_midi import instrument_of
from tutti.datasets.scores.labels import labels_of
from tutti.datasets.scores.score import Score, write_midi
from tutti.datasets.scores.soundfonts import find_soundfonts, open_soundfont, open_soundfonts
from tutti.datasets.scores.variation import vary
from tutti.datasets.sources import rendered
from tutti.datasets.sources.rendered import Config, Rendered, parse, performance_of, read

HEAD = b"RIFF\x04\x00\x00\x00sfbk"  # what a soundfont begins with: the source never opens more


def note(onset_s, offset_s, pitch, program):
    return Note(onset_s, offset_s, pitch, program, None if program is None else instrument_of(program), 80)


@pytest.fixture
def font(tmp_path, monkeypatch):
    path = tmp_path / "fonts" / "one.sf2"
    path.parent.mkdir()
    path.write_bytes(HEAD + b"1")
    monkeypatch.setenv("TUTTI_SOUNDFONTS", str(path))
    return open_soundfont(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "scores"
    (root / "mid").mkdir(parents=True)
    for number in (1, 2):
        (root / "mid" / f"{number}.mid").write_bytes(write_midi(compose(0, number)))
    return root


def clips_of(config):
    return [clip for recording in read({}, config) for clip in recording.clips]


# --- composed pieces


def test_composed_pieces_need_no_folder_and_all_variants_are_one_group(font):
    recordings = list(read({}, Config(scores=2, variants=2)))
    clips = [clip for recording in recordings for clip in recording.clips]

    assert len(recordings) == 4
    assert {clip.group for clip in clips} == {"rendered/composed/0/000000", "rendered/composed/0/000001"}
    assert len({clip.id for clip in clips}) == len(clips)
    assert recordings[0].clips[0].id == f"rendered/composed/0/000000.0.1.{font.key}@0"
    assert {(clip.partition, clip.license) for clip in clips} == {("composed", "CC0-1.0")}


def test_clips_follow_each_other_and_hold_the_notes_of_their_time(font):
    (recording,) = read({}, Config(scores=1, clip_s=10.0))
    performance = performance_of(parse(recording.media.url), None)

    assert [clip.start_s for clip in recording.clips] == [0.0, 10.0, 20.0][: len(recording.clips)]
    assert all(clip.declared_s == pytest.approx(clip.end_s - clip.start_s) for clip in recording.clips)
    heard = {(round(n.onset_s + clip.start_s, 3), n.pitch, n.program) for clip in recording.clips for n in clip.notes}
    last = recording.clips[-1].end_s
    expected = {(round(n.onset_s, 3), n.pitch, n.program) for n in performance.score.notes if n.onset_s < last - 0.01}
    assert expected <= heard


def test_reading_twice_gives_the_same_rows(font):
    assert list(read({}, Config(scores=3, variants=2))) == list(read({}, Config(scores=3, variants=2)))


def test_an_address_says_all_that_decides_the_sound(font):
    (recording,) = read({}, Config(scores=1, seed=4, sample_rate=44_100))

    assert parse(recording.media.url) == Rendered("composed/4/000000", font.key, 44_100, 4, 1, "v1")
    assert performance_of(parse(recording.media.url), None) == vary(compose(4, 0), seed=4, variant=1)


def test_a_strange_path_survives_its_address():
    there = Rendered("mid/a b/ä?&#%.mid", "0123456789ab", 32_000, 0, 2, "feedbeef")

    assert parse(there.address()) == there


@pytest.mark.parametrize("address", ["render:scores/a.mid", "http://x/?font=a", "render:x?font=a&rate=1"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="is no address of a rendering"):
        parse(address)


# --- folders


def test_midi_files_are_rendered_as_they_stand_first(font, folder):
    recordings = list(read({}, Config(root=str(folder), variants=2, license="CC0-1.0")))

    assert [parse(recording.media.url).path for recording in recordings] == ["scores/mid/1.mid"] * 2 + [
        "scores/mid/2.mid"
    ] * 2
    performance = performance_of(parse(recordings[0].media.url), folder)
    assert len(performance.score.notes) == len(compose(0, 1).notes)
    assert performance.gains_db == {}
    assert recordings[0].clips[0].group == recordings[1].clips[0].group == "rendered/scores/mid/1"
    assert {clip.partition for recording in recordings for clip in recording.clips} == {"scores"}
    assert str(folder) not in repr(recordings)


def test_a_damaged_file_is_one_clip_with_its_defect_and_the_others_are_well(font, folder):
    (folder / "mid" / "1.mid").write_bytes(b"MThd nonsense")
    (folder / "mid" / "3.mid").write_bytes(write_midi(Score((), 1.0)))
    clips = clips_of(Config(root=str(folder)))
    defects = {clip.recording: clip.defect.reason for clip in clips if clip.defect}

    assert defects == {"scores/mid/1.mid": "bad_score", "scores/mid/3.mid": "no_notes"}
    assert any(clip.defect is None for clip in clips)


def test_a_file_that_changed_since_its_labels_were_read_is_refused(font, folder):
    recording = next(iter(read({}, Config(root=str(folder)))))
    (folder / "mid" / "1.mid").write_bytes(write_midi(compose(0, 9)))

    with pytest.raises(IntegrityError, match=r"mid/1.mid: has changed since the build began; run it again"):
        performance_of(parse(recording.media.url), folder)


def test_without_scores_or_number_it_says_what_to_pass(font, tmp_path):
    with pytest.raises(UsageError, match=r"pass --data-from DIR with MIDI files, or --set rendered.scores=1000"):
        list(read({}, Config()))
    with pytest.raises(UsageError, match=r"holds no \.mid file"):
        list(read({}, Config(root=str(tmp_path))))
    with pytest.raises(UsageError, match="is not a folder"):
        list(read({}, Config(root=str(tmp_path / "nowhere"))))


@pytest.mark.parametrize("setting", [{"variants": 0}, {"clip_s": 2.0}, {"sample_rate": 8_000}, {"scores": -1}])
def test_settings_that_mean_nothing_are_refused(setting):
    with pytest.raises(UsageError, match=r"rendered: .*expected"):
        Config(**setting)


# --- labels


def presence(notes, start_s=0.0, end_s=10.0):
    labels = labels_of(tuple(notes), start_s, end_s)
    assert set(labels.values()) <= {Label(PRESENT, "score"), Label(ABSENT, "score")}
    return {name: label.presence for name, label in labels.items()}


def test_what_plays_is_present_and_what_no_key_moves_is_absent():
    labels = presence([note(1, 2, 60, 40), note(3, 4, 48, 42)])

    assert {name for name, value in labels.items() if value == PRESENT} == {"violin", "cello"}
    assert {name for name in rendered.INSTRUMENTS if name not in labels} == set()


def test_a_note_that_ended_less_than_two_seconds_before_leaves_its_instrument_unknown():
    assert "violin" not in presence([note(0, 9, 60, 40)], 10.0, 20.0)
    assert presence([note(0, 7.9, 60, 40)], 10.0, 20.0)["violin"] == ABSENT


def test_less_than_a_tenth_of_a_second_is_not_present():
    assert "violin" not in presence([note(9.95, 12, 60, 40)])
    assert presence([note(9.85, 12, 60, 40)])["violin"] == PRESENT


def test_a_piano_note_held_for_long_is_present_only_while_it_rings():
    held = [note(0, 30, 60, 0)]

    assert presence(held, 0, 10)["piano"] == PRESENT
    assert "piano" not in presence(held, 20, 30)


def test_guitars_are_also_guitar_and_a_bass_is_none():
    assert presence([note(0, 1, 60, 25)])["guitar"] == PRESENT
    assert presence([note(0, 1, 60, 25)])["electric_guitar"] == ABSENT
    assert presence([note(0, 1, 40, 33)])["guitar"] == ABSENT


def test_cymbals_are_present_where_they_are_struck_and_unknown_with_a_hi_hat():
    kick = [note(t, t + 0.2, 36, DRUMS) for t in range(4)]

    assert presence(kick)["drums"] == PRESENT
    assert presence(kick)["cymbals"] == ABSENT
    assert presence([*kick, *(note(t, t + 0.2, 49, DRUMS) for t in range(4))])["cymbals"] == PRESENT
    assert "cymbals" not in presence([*kick, note(0, 1, 42, DRUMS)])


def test_a_section_says_nothing_about_its_members():
    labels = presence([note(0, 5, 60, 48)])  # string ensemble

    assert {"violin", "cello", "synthesizer"} == {name for name in rendered.INSTRUMENTS if name not in labels}


# --- soundfonts


def test_soundfonts_are_named_by_digest_and_found_by_the_variable(font, tmp_path, monkeypatch):
    second = tmp_path / "fonts" / "two.sf3"
    second.write_bytes(HEAD + b"2")
    monkeypatch.setenv("TUTTI_SOUNDFONTS", str(tmp_path / "fonts"))
    fonts = find_soundfonts()

    assert {font.path.name for font in fonts} == {"one.sf2", "two.sf3"}
    assert [font.sha256 for font in fonts] == sorted(font.sha256 for font in fonts)
    assert open_soundfonts([second, font.path]) == open_soundfonts([font.path, second])


def test_several_soundfonts_are_mixed_by_digest(font, tmp_path, monkeypatch):
    (tmp_path / "fonts" / "two.sf2").write_bytes(HEAD + b"2")
    monkeypatch.setenv("TUTTI_SOUNDFONTS", str(tmp_path / "fonts"))
    used = [parse(recording.media.url).font for recording in read({}, Config(scores=6, variants=2))]

    assert len(set(used)) == 2
    assert used == [parse(recording.media.url).font for recording in read({}, Config(scores=6, variants=2))]


def test_a_file_that_is_no_soundfont_is_named_with_the_remedy(tmp_path):
    (tmp_path / "song.sf2").write_bytes(b"RIFF\x00\x00\x00\x00WAVE")
    for path, problem in ((tmp_path / "song.sf2", "is no SoundFont 2 file"), (tmp_path / "no.sf2", "No such file")):
        with pytest.raises(UsageError, match=f"{path.name}: {problem}.* apt install fluidsynth fluid-soundfont-gm"):
            open_soundfont(path)


def test_a_machine_without_soundfonts_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv("TUTTI_SOUNDFONTS", raising=False)
    monkeypatch.setattr("tutti.datasets.scores.soundfonts.USUAL_PLACES", (Path(tmp_path / "nowhere"),))
    with pytest.raises(UsageError, match=r"no soundfont in .*apt install fluidsynth fluid-soundfont-gm"):
        find_soundfonts()


def test_what_systems_leave_among_scores_is_passed_over_and_said(font, folder):
    (folder / "mid" / "__MACOSX").mkdir()
    for name in ("._1.mid", "__MACOSX/1.mid"):
        (folder / "mid" / name).write_bytes(b"\0\5\x16\7")

    assert rendered.midi_files(folder) == [Path("mid/1.mid"), Path("mid/2.mid")]
    assert tuple(rendered.remarks(Config(root=str(folder)))) == (
        "passed over 1 files that macOS, Windows or a NAS left behind: mid/._1.mid",
    )


def test_two_scores_of_one_name_are_named(font, folder):
    (folder / "mid" / "1.kar").write_bytes(write_midi(compose(0, 3)))

    with pytest.raises(UsageError, match=r"rendered: mid/1\.kar and mid/1\.mid have one id; remove one of them"):
        clips_of(Config(root=str(folder)))


def test_what_was_put_right_in_a_score_is_counted_in_its_rows(font, folder):
    (folder / "mid" / "1.mid").write_bytes(write_midi(compose(0, 1)) + b"\r\n")

    counts = {clip.group: clip.score_repairs for clip in clips_of(Config(root=str(folder)))}

    assert counts == {"rendered/scores/mid/1": 1, "rendered/scores/mid/2": 0}
