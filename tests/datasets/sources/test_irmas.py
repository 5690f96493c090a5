"""IRMAS: file names, annotations and archives, in miniature and as published."""

import json
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.datasets.archive import open_archive, repair_name
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import ABSENT, PRESENT, Clip, Label
from tutti.datasets.source import LocalFile
from tutti.datasets.sources import irmas
from tutti.datasets.sources.irmas import TrainName, parse_annotation, parse_test_song, parse_train_name

CELLO = "IRMAS-TrainingData/cel/[cel][cla]0001__1.wav"
SONG = "IRMAS-TestingData-Part1/Part1/Song"

Members = Mapping[str, bytes]
Read = Callable[..., list[Clip]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read an IRMAS whose archives hold the members given, and nothing else."""

    def run(config: irmas.Config | None = None, **members: Members) -> list[Clip]:
        files = {}
        for remote in irmas.REMOTES:
            path = tmp_path / f"{remote.name}.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in members.get(remote.name, {}).items():
                    archive.writestr(name, content)
            files[remote.name] = LocalFile("irmas", remote, path, "0" * 64, path.stat().st_size, "mirror")
        recordings = irmas.read(files, config or irmas.Config())
        return [clip for recording in recordings for clip in recording.clips]

    return run


# Training names


def test_cla_is_clarinet_in_the_first_bracket_and_classical_in_the_last() -> None:
    cello = parse_train_name("IRMAS-TrainingData/cel/[cel][cla]0001__2.wav")
    clarinet = parse_train_name("IRMAS-TrainingData/cla/[cla][cla]0150__1.wav")
    assert cello == TrainName(None, "cello", None, "classical", "0001", 2)
    assert clarinet == TrainName(None, "clarinet", None, "classical", "0150", 1)


def test_drum_tag_comes_between_instrument_and_genre() -> None:
    with_drums = parse_train_name("IRMAS-TrainingData/cel/002__[cel][dru][cou_fol]0002__3.wav")
    without = parse_train_name("IRMAS-TrainingData/vio/143__[vio][nod][cla]2147__3.wav")
    assert with_drums == TrainName("002", "cello", True, "country_folk", "0002", 3)
    assert without == TrainName("143", "violin", False, "classical", "2147", 3)


def test_parts_of_one_song_share_its_stem() -> None:
    first = parse_train_name("IRMAS-TrainingData/cel/002__[cel][dru][cou_fol]0002__1.wav")
    second = parse_train_name("IRMAS-TrainingData/cel/002__[cel][dru][cou_fol]0002__2.wav")
    assert first.stem == second.stem == "002__[cel][dru][cou_fol]0002"


@pytest.mark.parametrize(
    "name",
    [
        "[cel][cla]0001__4.wav",  # there are three parts
        "[cel][cla]001__1.wav",  # a song has four digits
        "[cel]0001__1.wav",  # no genre
        "[cel][cla][dru]0001__1.wav",  # drums after the genre
        "[cel][metal]0001__1.wav",  # no such genre
        "[tub][cla]0001__1.wav",  # no such instrument
        "1__[cel][cla]0001__1.wav",  # a number has three digits
        "[cel][cla]0001__1.WAV",
        "[cel][cla]000\u0661__1.wav",  # a digit, but an Arabic one
        "notes.wav",
    ],
)
def test_a_wav_of_another_name_is_an_error_that_names_archive_member_and_remedy(name: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_train_name(f"IRMAS-TrainingData/cel/{name}")
    for part in ("IRMAS-TrainingData.zip", f"IRMAS-TrainingData/cel/{name}", "download the archive again"):
        assert part in str(caught.value)


def test_a_file_in_another_instrument_s_folder_is_an_error() -> None:
    with pytest.raises(IntegrityError, match=r"vio/\[cel\].*is named cel but lies in folder 'vio'"):
        parse_train_name("IRMAS-TrainingData/vio/[cel][cla]0001__1.wav")


def names() -> st.SearchStrategy[TrainName]:
    digits = "0123456789"
    return st.builds(
        TrainName,
        number=st.none() | st.text(digits, min_size=3, max_size=3),
        instrument=st.sampled_from(irmas.INSTRUMENTS),
        drums=st.sampled_from([True, False, None]),
        genre=st.sampled_from(sorted(irmas.GENRES.values())),
        song=st.text(digits, min_size=4, max_size=4),
        part=st.integers(1, 3),
    )


@given(names())
def test_every_training_name_survives_writing_and_reading(name: TrainName) -> None:
    code = {instrument: code for code, instrument in irmas.CODES.items()}[name.instrument]
    assert parse_train_name(f"IRMAS-TrainingData/{code}/{name.stem}__{name.part}.wav") == name


# Test names and annotations


@pytest.mark.parametrize(
    ("name", "song"),
    [
        ("04.Mira - ANDREW HILL-16.wav", "04.Mira - ANDREW HILL"),  # dots and dashes
        ("04 [Speak No Evil] 22-3.wav", "04 [Speak No Evil] 22"),  # brackets
        ("Sketches #1 & 2 23-6.wav", "Sketches #1 & 2 23"),
        ("Canto das três raças-1.wav", "Canto das três raças"),
        ("06 - Lali Puna - Faking the Books-12.wav", "06 - Lali Puna - Faking the Books"),
    ],
)
def test_only_the_final_number_is_cut_from_a_title(name: str, song: str) -> None:
    assert parse_test_song(f"IRMAS-TestingData-Part3/Part3/{name}") == song


@given(st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1), st.integers(1, 99))
def test_any_title_survives_writing_and_reading(song: str, part: int) -> None:
    assert parse_test_song(f"Part1/{song}-{part}.wav") == song


def test_a_test_file_without_number_is_an_error() -> None:
    with pytest.raises(IntegrityError, match=r"^Part1/Song\.wav: .*-<number>\.wav"):
        parse_test_song("Part1/Song.wav")


def test_annotation_is_one_code_and_a_tab_per_line() -> None:
    assert parse_annotation("voi\t\ngac\t\n", "a.txt") == ("voice", "acoustic_guitar")
    assert parse_annotation("pia\t\r\n\r\n", "a.txt") == ("piano",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voi\t\nbas\t\n", r"^a\.txt:2: unknown instrument 'bas'; known: cel, cla"),
        ("voi\t\ngac\t\nvoi\t\n", r"^a\.txt:3: voi is listed twice"),
        ("voi gac\n", r"^a\.txt:1: unknown instrument 'voi gac'"),
        ("", r"^a\.txt:1: lists no instrument"),
        ("\t\n", r"^a\.txt:1: lists no instrument"),
    ],
)
def test_a_damaged_annotation_is_an_error_that_names_file_and_line(text: str, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        parse_annotation(text, "a.txt")


# Reading


def test_training_clip_knows_its_predominant_instrument_and_nothing_else(read: Read) -> None:
    assert read(train={CELLO: b""}) == [
        Clip(
            id=f"irmas/{CELLO}@0",
            source="irmas",
            recording=CELLO,
            group="irmas/[cel][cla]0001",
            partition="train",
            labels={"cello": Label(PRESENT, "human")},
            license="CC-BY-NC-SA-3.0",
        )
    ]


def test_others_absent_states_the_ten_other_instruments_as_an_assumption(read: Read) -> None:
    (clip,) = read(irmas.Config(others="absent"), train={CELLO: b""})
    assert clip.labels.pop("cello") == Label(PRESENT, "human")  # type: ignore[attr-defined]
    assert list(clip.labels.values()) == [Label(ABSENT, "weak")] * 10


def test_test_clip_is_annotated_for_all_eleven_instruments(read: Read) -> None:
    (clip,) = read(test1={f"{SONG}-2.wav": b"", f"{SONG}-2.txt": b"cel\t\npia\t\n"})
    assert (clip.partition, clip.group) == ("test", "irmas/Song")
    assert {name for name, label in clip.labels.items() if label == Label(PRESENT, "human")} == {"cello", "piano"}
    assert sum(label == Label(ABSENT, "human") for label in clip.labels.values()) == 9


def test_equal_numbers_in_two_folders_are_two_clips(read: Read) -> None:
    members = {f"IRMAS-TrainingData/{code}/[{code}][pop_roc]0001__1.wav": b"" for code in ("gac", "gel")}
    assert len({clip.id for clip in read(train=members)}) == 2


def test_what_is_not_audio_is_passed_over(read: Read) -> None:
    clutter = ["README.txt", "cel/.DS_Store", "cel/._[cel][cla]0001__1.wav", "cel/notes.wav.txt"]
    members = {f"IRMAS-TrainingData/{name}": b"" for name in clutter} | {f"__MACOSX/{CELLO}": b"", CELLO: b""}
    assert [clip.recording for clip in read(train=members)] == [CELLO]


def test_decomposed_accents_give_the_same_id_and_find_their_annotation(read: Read) -> None:
    decomposed, composed = "Part1/tre\u0302s-1", "Part1/tr\u00eas-1"
    (clip,) = read(test1={f"{decomposed}.wav": b"", f"{composed}.txt": b"voi\t\n"})
    assert clip.id == f"irmas/{composed}.wav@0"
    assert clip.group == "irmas/tr\u00eas"


def test_media_keeps_the_name_that_the_archive_uses(tmp_path: Path) -> None:
    member = "Part1/tre\u0302s-1"
    files = {}
    for remote in irmas.REMOTES:
        with zipfile.ZipFile(tmp_path / remote.name, "w") as archive:
            if remote.name == "test1":
                archive.writestr(f"{member}.wav", b"")
                archive.writestr(f"{member}.txt", b"voi\t\n")
        files[remote.name] = LocalFile("irmas", remote, tmp_path / remote.name, "f" * 64, 0, "md5")
    (recording,) = irmas.read(files, irmas.Config())
    assert recording.media.member == f"{member}.wav"
    assert recording.media.sha256 == "f" * 64
    assert recording.media.url.endswith("/IRMAS-TestingData-Part1.zip")


def test_names_that_differ_in_unicode_form_only_are_an_error(read: Read) -> None:
    members = {f"Part1/{name}-1{suffix}": b"voi" for name in ("tre\u0302s", "tr\u00eas") for suffix in (".wav", ".txt")}
    with pytest.raises(IntegrityError, match=r"^IRMAS-TestingData-Part1\.zip: .* Unicode form only"):
        read(test1=members)


def test_a_test_clip_without_annotation_is_an_error(read: Read) -> None:
    with pytest.raises(IntegrityError, match=r"Song-1\.wav: has no annotation"):
        read(test1={f"{SONG}-1.wav": b"", f"{SONG}-2.txt": b"cel\t\n"})


def test_an_annotation_that_is_not_text_is_an_error(read: Read) -> None:
    with pytest.raises(IntegrityError, match=r"Song-1\.txt: is not plain text"):
        read(test1={f"{SONG}-1.wav": b"", f"{SONG}-1.txt": b"\xff\xfe"})


def test_an_unknown_switch_value_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="choose one of unknown, absent"):
        irmas.Config(others="Absent")  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\x00"), min_size=1, max_size=20))
def test_titles_come_back_from_a_zip_that_forgot_its_utf8_flag(title: str) -> None:
    info = zipfile.ZipInfo(f"Part2/{title}-1.wav".encode().decode("cp437"))
    assert parse_test_song(repair_name(info)) == title


# As published


def test_all_published_training_names_parse(shared: Path) -> None:
    paths = (shared / "labels" / "irmas_audio_paths.txt").read_text(encoding="utf-8").splitlines()
    names = [parse_train_name(path) for path in paths if path.startswith("IRMAS-TrainingData/")]
    # The official 6,705 less the 45 files that mirdata's index loses.
    assert Counter(name.instrument for name in names) == {
        "cello": 388,
        "clarinet": 505 - 5,
        "flute": 451 - 8,
        "acoustic_guitar": 637 - 6,
        "electric_guitar": 760 - 6,
        "organ": 682,
        "piano": 721 - 2,
        "saxophone": 626,
        "trumpet": 577 - 6,
        "violin": 580 - 9,
        "voice": 778 - 3,
    }
    assert Counter(name.drums for name in names) == {True: 892, False: 982, None: 4_786}
    assert Counter(name.genre for name in names) == {
        "pop_rock": 2_464,
        "jazz_blues": 2_024,
        "classical": 1_651,
        "country_folk": 479,
        "latin_soul": 42,
    }
    assert len({name.stem for name in names}) == 2_257
    assert len(set(paths)) == len(paths) == 9_534


def test_all_published_test_names_parse_to_208_songs_within_one_part_each(shared: Path) -> None:
    paths = (shared / "labels" / "irmas_audio_paths.txt").read_text(encoding="utf-8").splitlines()
    songs = {(parse_test_song(path), path.partition("/")[0]) for path in paths if "-TestingData-" in path}
    assert len(songs) == len({song for song, _ in songs}) == 208


def test_all_published_annotations_parse(shared: Path) -> None:
    archive = open_archive(shared / "labels" / "irmas_test_annotations.zip", "irmas_test_annotations.zip")
    annotations = [parse_annotation(archive.read(name).decode(), name) for name in archive.names()]
    assert Counter(map(len, annotations)) == {1: 1_236, 2: 1_278, 3: 318, 4: 39, 5: 3}
    assert Counter(instrument for annotation in annotations for instrument in annotation) == {
        "voice": 1_044,
        "piano": 995,
        "electric_guitar": 942,
        "acoustic_guitar": 535,
        "organ": 361,
        "saxophone": 326,
        "violin": 211,
        "trumpet": 167,
        "flute": 163,
        "cello": 111,
        "clarinet": 62,
    }


def test_the_published_layout_reads_as_9534_clips(shared: Path, tmp_path: Path) -> None:
    paths = (shared / "labels" / "irmas_audio_paths.txt").read_text(encoding="utf-8").splitlines()
    annotations = open_archive(shared / "labels" / "irmas_test_annotations.zip", "irmas_test_annotations.zip")
    files = {}
    for remote in irmas.REMOTES:
        root = remote.url.rpartition("/")[2].removesuffix(".zip") + "/"
        with zipfile.ZipFile(tmp_path / remote.name, "w") as archive:
            for path in (path for path in paths if path.startswith(root)):
                archive.writestr(path, b"")
                if remote.name != "train":
                    text = path.removesuffix(".wav") + ".txt"
                    archive.writestr(text, annotations.read(text))
        files[remote.name] = LocalFile("irmas", remote, tmp_path / remote.name, "0" * 64, 0, "mirror")
    clips = [clip for recording in irmas.read(files, irmas.Config()) for clip in recording.clips]
    assert Counter(clip.partition for clip in clips) == {"train": 6_660, "test": 2_874}
    assert len({clip.id for clip in clips}) == 9_534
    assert len({clip.group for clip in clips}) == 2_257 + 208


def test_mirror_of_real_recordings_holds_what_was_planted(shared: Path) -> None:
    mirror = shared / "mirror"
    files = {
        remote.name: LocalFile("irmas", remote, mirror / remote.url.partition("://")[2], "0" * 64, 0, "mirror")
        for remote in irmas.REMOTES
    }
    clips = {clip.recording: clip for recording in irmas.read(files, irmas.Config()) for clip in recording.clips}
    truth = json.loads((mirror / "TRUTH.json").read_text())
    assert Counter(clip.partition for clip in clips.values()) == {"train": 136, "test": 24}
    for path, planted in truth["irmas_mislabelled"].items():
        assert clips[path].labels == {irmas.CODES[planted["labelled"]]: Label(PRESENT, "human")}
    assert "irmas/Canto das três raças 21" in {clip.group for clip in clips.values()}
