"""The user's own audio of videos: what names claim, and what lengths prove."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import signals
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from tutti.datasets.audio import decode
from tutti.datasets.errors import UsageError
from tutti.pipelines.acquisition.own_audio import Candidate, candidates, first_verified, offset_in_video, placement
from tutti.pipelines.acquisition.own_index import Named, index_of, parse_name

ID = "-abc_DEF123"


@pytest.fixture(autouse=True)
def fresh_index():
    index_of.cache_clear()


def put(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def probe(content):
    return decode(content, "file").duration_s


def wav(duration_s):
    return signals.encoded(signals.sine(duration_s, sample_rate=8_000), sample_rate=8_000)


def found(root, video_id=ID, start_s=30.0, end_s=40.0):
    """Names and kinds of the candidates, best first."""
    chosen = candidates(index_of((str(root),)), video_id, start_s, end_s)
    return [(os.path.relpath(candidate.path, root), candidate.kind) for candidate in chosen]


def used(root, start_s=30.0, end_s=40.0, video_id=ID):
    """(name, offset) of what is used, or None, and the notes."""
    chosen, notes = first_verified(candidates(index_of((str(root),)), video_id, start_s, end_s), start_s, end_s, probe)
    return chosen and (chosen[0].path.name, chosen[1]), notes


# --- names


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("-abc_DEF123.wav", Named("-abc_DEF123")),
        ("Y-abc_DEF123.wav", Named("-abc_DEF123")),
        ("YYYYYYYYYYY.wav", Named("YYYYYYYYYYY")),
        ("YYYYYYYYYYYY.wav", Named("YYYYYYYYYYY")),
        ("-abc_DEF123_30.flac", Named("-abc_DEF123", "30")),
        ("-abc_DEF123_30.000_40.000.flac", Named("-abc_DEF123", "30.000", "40.000")),
        ("Y-abc_DEF123_30000_40000.OGG", Named("-abc_DEF123", "30000", "40000")),
        ("___________.m4a", Named("___________")),
        ("____________30.m4a", Named("___________", "30")),
        ("abcdefgh_30_40.webm", Named("abcdefgh_30", "40")),
        ("Yabcdefghij_30.webm", Named("Yabcdefghij", "30")),
        ("Yabcdefghij__30.webm", Named("abcdefghij_", "30")),
    ],
)
def test_a_name_of_a_scheme_is_understood(name, named):
    assert parse_name(name) == named


@pytest.mark.parametrize(
    "name",
    [
        "abc.wav", "abcdefghijkl.wav", "-abc_DEF123.txt", "-abc_DEF123", "-abc_DEF123.info.json", "-abc_DEF123_.wav",
        "-abc_DEF123_x.wav", "-abc_DEF123_30_40_50.wav", "-abc_DEF123_-30.wav", "-abc_DEF123.wav.part", "CON.wav",
        "abcdéfghijk.wav", "-abc_DEF123_٣.wav", "._-abc_DEF123.wav", "-abc_DEF123.wav\n",
    ],
)  # fmt: skip
def test_any_other_name_is_no_audio_of_a_video(name):
    assert parse_name(name) is None


@given(
    video_id=st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True),
    leading=st.sampled_from(["", "Y"]),
    times=st.lists(st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,3})?", fullmatch=True), max_size=2),
)
def test_whatever_the_id_it_is_read_back_from_its_name(video_id, leading, times):
    assert parse_name(leading + "_".join([video_id, *times]) + ".wav") == Named(video_id, *times)


# --- candidates


def test_the_better_a_name_fits_the_earlier_it_comes_then_the_nearer_to_the_root(tmp_path):
    for name in ("z/Y{}.wav", "a/b/{}.webm", "{}_30.flac", "b/{}_30000.flac", "c/{}_30.000_40.000.ogg", "{}_30_45.ogg"):
        put(tmp_path / name.format(ID))

    assert found(tmp_path) == [
        (f"c/{ID}_30.000_40.000.ogg", "exact"),
        (f"{ID}_30.flac", "start"),
        (f"{ID}_30_45.ogg", "start"),
        (f"b/{ID}_30000.flac", "start"),
        (f"z/Y{ID}.wav", "whole"),
        (f"a/b/{ID}.webm", "whole"),
    ]


@pytest.mark.parametrize("name", ["{}_31.wav", "{}_0_10.wav", "{}_30_30.wav", "{}_40_30.wav", "{}_30.000000.5.wav"])
def test_a_file_of_another_part_of_the_video_is_no_candidate(tmp_path, name):
    put(tmp_path / name.format(ID))

    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("times", "start_s", "end_s"),
    [("0_10", 0.0, 10.0), ("0_10000", 0.0, 10.0), ("12.34_22.34", 12.34, 22.34), ("12340_22340", 12.34, 22.34)],
)
def test_times_are_seconds_or_milliseconds(tmp_path, times, start_s, end_s):
    put(tmp_path / f"{ID}_{times}.wav")

    assert found(tmp_path, start_s=start_s, end_s=end_s) == [(f"{ID}_{times}.wav", "exact")]


def test_start_and_end_are_in_one_unit(tmp_path):
    put(tmp_path / f"{ID}_30_40000.wav")  # 30 s to 40,000 s

    assert found(tmp_path) == [(f"{ID}_30_40000.wav", "start")]


def test_earlier_folders_come_first_and_a_folder_given_twice_counts_once(tmp_path):
    for root in "ab":
        put(tmp_path / root / f"{ID}.wav")
    roots = tuple(str(tmp_path / root) for root in "bab")

    paths = [candidate.path for candidate in candidates(index_of(roots), ID, 0.0, 10.0)]

    assert paths == [tmp_path / "b" / f"{ID}.wav", tmp_path / "a" / f"{ID}.wav"]


def test_a_mirror_is_a_folder_like_any_other(tmp_path):
    put(tmp_path / "www.youtube.com" / "watch" / f"{ID}.webm")

    assert found(tmp_path) == [(f"www.youtube.com/watch/{ID}.webm", "whole")]


def test_links_are_followed_but_not_in_circles_nor_to_nowhere_and_pipes_are_left_alone(tmp_path):
    put(tmp_path / "elsewhere" / f"{ID}.wav")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "root")
    (tmp_path / "root" / f"{ID}_30.wav").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "root" / f"{ID}_30.flac")

    assert found(tmp_path / "root") == [(f"linked/{ID}.wav", "whole")]


@pytest.mark.parametrize("name", ["absent", "file.wav"])
def test_a_root_that_is_no_folder_is_a_usage_error(tmp_path, name):
    put(tmp_path / "file.wav")

    with pytest.raises(UsageError, match=rf"--data-from .*{name}: no such folder"):
        index_of((str(tmp_path / name),))


# --- fault 42: hostile ids


def test_ids_that_differ_in_case_only_are_different_videos(tmp_path):
    put(tmp_path / "a" / "abcdefghijk.wav")
    put(tmp_path / "b" / "ABCDEFGHIJK.wav")

    assert found(tmp_path, "abcdefghijk") == [("a/abcdefghijk.wav", "whole")]
    assert found(tmp_path, "ABCDEFGHIJK") == [("b/ABCDEFGHIJK.wav", "whole")]
    assert found(tmp_path, "Abcdefghijk") == []


@pytest.mark.parametrize("video_id", ["-----------", "___________", "-_-_-_-_-_-", "YYYYYYYYYYY", "00000000000"])
def test_a_hostile_id_is_found_under_all_its_names_and_no_other_id_is(tmp_path, video_id):
    for name in ("{}.wav", "Y{}.mp3", "{}_30.wav", "Y{}_30_40.wav"):
        put(tmp_path / name.format(video_id))
    put(tmp_path / "zzzzzzzzzzz.wav")

    assert [kind for _, kind in found(tmp_path, video_id)] == ["exact", "start", "whole", "whole"]
    assert len(found(tmp_path, "zzzzzzzzzzz")) == 1


# --- lengths


@pytest.mark.parametrize(
    ("kind", "promised_s", "duration_s", "offset_s"),
    [
        ("whole", None, 240.0, 0.0),  # the video
        ("whole", None, 40.0, 0.0),
        ("whole", None, 39.9, 0.0),
        ("whole", None, 39.8, None),  # neither: a broken download
        ("whole", None, 10.0, 30.0),  # the clip
        ("whole", None, 10.1, 30.0),
        ("whole", None, 9.9, 30.0),
        ("whole", None, 9.8, None),
        ("whole", None, 10.2, None),
        ("start", None, 10.05, 30.0),
        ("start", None, 9.5, None),
        ("start", None, 240.0, None),  # perhaps the whole video under a wrong name
        ("start", 15.0, 15.0, 30.0),
        ("start", 15.0, 10.0, None),  # shorter than its own name says
        ("start", 5.0, 5.0, None),  # ends before the clip does
        ("exact", 10.0, 9.95, 30.0),
        ("exact", 10.0, 40.0, None),
    ],
)
def test_the_length_tells_where_a_file_begins(kind, promised_s, duration_s, offset_s):
    assert offset_in_video(Candidate(Path("file"), kind, promised_s), duration_s, 30.0, 40.0) == offset_s


@pytest.mark.parametrize(
    ("path", "duration_s", "kind", "reason"),
    [
        ("Y-abc_DEF123.ogg", 20.0, "dismissed", "its name (Y...) is that of a ready-cut clip, which has 10.000 s"),
        ("Y-abc_DEF123.ogg", 240.0, "dismissed", "its name (Y...) is that of a ready-cut clip"),
        ("Y-abc_DEF123.ogg", 10.3, "dismissed", "expected the clip (10.000 s) or the video up to its end (20.000 s)"),
        ("Y-abc_DEF123.ogg", 10.0, "cut", "lasts 10.000 s, as long as its clip"),
        ("-abc_DEF123.ogg", 20.0, "dismissed", "the whole video, or the clip (10.000 s) with something around it"),
        ("-abc_DEF123.ogg", 29.0, "dismissed", "name it by its times, <id>_<start>_<end>, or put it, whole, into www."),
        ("-abc_DEF123.ogg", 30.0, "whole", "far longer than its clip"),
        ("www.youtube.com/watch/-abc_DEF123.ogg", 20.0, "whole", "in the folder of whole videos"),
        ("A title [-abc_DEF123].m4a", 10.0, "cut", "as long as its clip"),
        ("A title [-abc_DEF123].m4a", 13.0, "dismissed", "lasts 13.000 s; expected the clip"),
    ],
)
def test_a_file_is_whole_or_cut_where_nothing_else_is_possible_else_dismissed_with_the_reason(
    path, duration_s, kind, reason
):
    placed = placement(Candidate(Path(path), "whole"), duration_s, 10.0, 20.0)

    assert placed.kind == kind
    assert reason in placed.reason


@pytest.mark.parametrize("times", ["0_4", "0.5_3.5", "500_3500"])
def test_a_name_whose_times_lie_around_the_clip_says_where_the_file_begins(tmp_path, times):
    name = f"{ID}_{times}.wav"
    put(tmp_path / name, wav(4.0 if times == "0_4" else 3.0))

    assert used(tmp_path, 1.0, 2.0) == ((name, 0.0 if times == "0_4" else 0.5), ())
    assert used(tmp_path, 1.0, 5.0) == (None, ())


def test_a_file_that_is_shorter_than_the_times_of_its_name_is_dismissed(tmp_path):
    put(tmp_path / f"{ID}_0_4.wav", wav(3.0))

    assert used(tmp_path, 1.0, 2.0) == (None, (f"{ID}_0_4.wav: lasts 3.000 s; expected 4.000 s by its name",))


def test_at_the_beginning_of_a_video_whole_and_cut_are_one(tmp_path):
    assert placement(Candidate(Path("Yx.ogg"), "whole"), 20.0, 0.0, 10.0).offset_s == 0.0


def test_names_as_yt_dlp_gives_them_are_understood_and_names_without_an_id_are_noted(tmp_path):
    for name in (f"A title, 2nd take [{ID}].m4a", f"A title-{ID}.m4a", f"._A title [{ID}].m4a", "cover.jpg"):
        put(tmp_path / name)

    assert found(tmp_path) == [(f"A title, 2nd take [{ID}].m4a", "whole")]
    assert index_of((str(tmp_path),)).strays == (f"A title-{ID}.m4a",)


def test_a_clip_up_to_the_end_of_the_video_needs_the_whole_video(tmp_path):
    put(tmp_path / f"{ID}.wav", wav(2.0))
    put(tmp_path / f"{ID}_1.wav", wav(1.0))

    assert found(tmp_path, start_s=1.0, end_s=None) == [(f"{ID}.wav", "whole")]
    assert used(tmp_path, 1.0, None) == ((f"{ID}.wav", 0.0), ())


def test_a_clip_at_the_very_beginning_begins_at_zero_either_way():
    assert offset_in_video(Candidate(Path("file"), "whole"), 10.0, 0.0, 10.0) == 0.0


@pytest.mark.parametrize("encode", [wav, lambda s: signals.webm(signals.sine(s, sample_rate=48_000))])
def test_a_full_video_and_a_ready_cut_clip_are_both_used_after_decoding(tmp_path, encode):
    put(tmp_path / "full" / f"{ID}.wav", encode(4.0))
    put(tmp_path / "cut" / f"Y{ID}.wav", encode(1.0))

    assert used(tmp_path / "full", 2.0, 3.0) == ((f"{ID}.wav", 0.0), ())
    assert used(tmp_path / "cut", 2.0, 3.0) == ((f"Y{ID}.wav", 2.0), ())


def test_what_does_not_decode_or_fit_is_passed_over_with_a_note(tmp_path):
    put(tmp_path / f"{ID}_2_3.wav", b"no audio at all")
    put(tmp_path / f"{ID}_2.wav", wav(0.5))
    put(tmp_path / f"{ID}.wav", wav(1.5))
    put(tmp_path / "x" / f"{ID}.flac", wav(3.0))

    usable, notes = used(tmp_path, 2.0, 3.0)

    assert usable == (f"{ID}.flac", 0.0)
    assert notes[0].startswith(f"{ID}_2_3.wav: file: ")
    assert notes[1:] == (
        f"{ID}_2.wav: lasts 0.500 s; expected 1.000 s by its name",
        f"{ID}.wav: lasts 1.500 s; expected the clip (1.000 s) or the video up to its end (3.000 s)",
    )


def test_where_nothing_fits_the_answer_is_none_and_notes_hold_no_path(tmp_path):
    put(tmp_path / f"{ID}.wav", b"")

    usable, notes = used(tmp_path)

    assert usable is None
    assert len(notes) == 1
    assert str(tmp_path) not in notes[0]
    assert used(tmp_path, video_id="zzzzzzzzzzz") == (None, ())


def test_a_file_that_vanished_since_the_index_was_made_is_passed_over(tmp_path):
    put(tmp_path / f"{ID}.wav", wav(1.0))
    index = index_of((str(tmp_path),))
    (tmp_path / f"{ID}.wav").unlink()

    assert first_verified(candidates(index, ID, 0.0, 1.0), 0.0, 1.0, probe) == (
        None, (f"{ID}.wav: No such file or directory",)
    )  # fmt: skip


@pytest.mark.parametrize(("listed", "usable"), [(wav(1.0), True), (wav(2.0), False)])
def test_audio_that_is_listed_in_sha256sums_must_have_that_digest(tmp_path, listed, usable):
    put(tmp_path / "x" / f"{ID}.wav", wav(1.0))
    put(tmp_path / "SHA256SUMS", f"{hashlib.sha256(listed).hexdigest()}  x/{ID}.wav\n".encode())

    chosen, notes = used(tmp_path, 0.0, 1.0)

    assert (chosen is not None) == usable
    assert notes == (() if usable else (f"{ID}.wav: damaged: its sha256 is not that of SHA256SUMS",))


# --- fault 26: few descriptors


def test_a_deep_tree_is_searched_with_few_open_files(tmp_path):
    deepest = tmp_path.joinpath(*(["d"] * 120))
    put(deepest / f"{ID}.wav")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "from tutti.pipelines.acquisition.own_index import index_of\n"
        "print(len(index_of((sys.argv[1],)).videos))"
    )

    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)

    assert (result.stdout, result.stderr) == ("1\n", "")
