"""The built-in sample: deterministic, in upstream's layouts, with the defects that TRUTH.json names."""

import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from conftest import ROOT
from numpy.typing import NDArray

from tutti.datasets.archive import repair_name
from tutti.datasets.errors import UsageError
from tutti.datasets.sample import SampleSize, sample_key, write_sample_mirror
from tutti.datasets.sample.dsp import SAMPLE_RATE, midi_to_hz, rng_for
from tutti.datasets.sample.encode import ogg_bytes
from tutti.datasets.sample.instruments import INSTRUMENTS, note
from tutti.datasets.sample.music import Song
from tutti.datasets.sample.timbre import Timbre

TINY = SampleSize(
    1, 1, 3, 1, openmic_tracks=8, videos_per_class=0, foreign_rows=12, slakh_songs=0, own_songs=0, jamendo_tracks=0
)
IRMAS = "zenodo.org/records/1290750/files"
OPENMIC = "zenodo.org/records/1432913/files/openmic-2018-v1.0.0.tgz"
CSVS = "storage.googleapis.com/us_audioset/youtube_corpus/v1/csv"
VIDEOS = "www.youtube.com/watch"
MULTITRACK = ("zenodo.org/records/4599666", "zenodo.org/records/4603870")  # whose mirror of real recordings is another
TRAIN_NAME = re.compile(
    r"(?:(?P<n>\d{3})__)?\[(?P<inst>[a-z]{3})\](?:\[(?P<drum>dru|nod)\])?"
    r"\[(?P<genre>cou_fol|cla|pop_roc|lat_sou|jaz_blu)\](?P<song>\d{4})__(?P<part>[123])\.wav"
)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample")
    write_sample_mirror(root, workers=1, size=TINY)
    return root


@pytest.fixture(scope="module")
def truth(mirror: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((mirror / "TRUTH.json").read_text(encoding="utf-8"))
    return content


def zip_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {repair_name(info): archive.read(info) for info in archive.infolist()}


def train_wavs(mirror: Path) -> dict[str, bytes]:
    members = zip_members(mirror / IRMAS / "IRMAS-TrainingData.zip")
    return {name: content for name, content in members.items() if name.endswith(".wav")}


def excerpt_members(mirror: Path) -> dict[str, bytes]:
    parts = (zip_members(mirror / IRMAS / f"IRMAS-TestingData-Part{part}.zip") for part in (1, 2, 3))
    return {name: content for part in parts for name, content in part.items()}


def openmic_members(mirror: Path) -> dict[str, bytes]:
    with tarfile.open(mirror / OPENMIC) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]


def openmic_rows(mirror: Path, name: str) -> list[dict[str, str]]:
    text = openmic_members(mirror)[f"openmic-2018/openmic-2018-{name}.csv"].decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def segment_rows(mirror: Path) -> Iterator[list[str]]:
    for partition in ("balanced_train", "eval", "unbalanced_train"):
        lines = (mirror / CSVS / f"{partition}_segments.csv").read_text(encoding="ascii").splitlines()
        yield from csv.reader((line for line in lines if line[0] != "#"), skipinitialspace=True)


def wav_samples(content: bytes) -> NDArray[np.float64]:
    return np.asarray(soundfile.read(io.BytesIO(content))[0])


def video_samples(path: Path) -> tuple[NDArray[np.float32], int]:
    with av.open(path) as container:
        stream = container.streams.audio[0]
        frames = [frame.to_ndarray() for frame in container.decode(stream)]
        return np.concatenate(frames, axis=1), stream.rate


def clip_digests(mirror: Path) -> list[str]:
    """One digest per clip: of the samples of a wav, of the file of the rest."""
    wavs = [*train_wavs(mirror).values(), *(c for name, c in excerpt_members(mirror).items() if name.endswith(".wav"))]
    contents = [wav[44:] or wav for wav in wavs]
    contents += [content for name, content in openmic_members(mirror).items() if name.endswith(".ogg")]
    contents += [path.read_bytes() for path in (mirror / VIDEOS).iterdir()]
    return [hashlib.sha256(content).hexdigest() for content in contents]


def test_same_seed_gives_the_same_bytes_for_any_worker_count_hash_seed_and_time_zone(
    mirror: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from tutti.datasets.sample import SampleSize, write_sample_mirror;"
        f"write_sample_mirror(Path(sys.argv[1]), workers=2, size=SampleSize(**{dataclasses.asdict(TINY)}))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment, check=True)
    files, again = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (mirror, tmp_path)
    )
    assert files.keys() == again.keys()
    assert [name for name in files if files[name] != again[name]] == []


def test_another_seed_gives_other_audio_throughout(mirror: Path, tmp_path: Path) -> None:
    write_sample_mirror(tmp_path, seed=1, workers=1, size=TINY)
    assert set(clip_digests(mirror)) & set(clip_digests(tmp_path)) == set()


def test_no_clip_is_there_twice_but_the_planted_duplicates(mirror: Path) -> None:
    digests = clip_digests(mirror)
    assert len(digests) - len(set(digests)) == 2


def test_an_excerpt_does_not_depend_on_what_was_rendered_before() -> None:
    song, again = (Song(0, "song", ("violin", "piano")) for _ in range(2))
    song.excerpt("first", 20_000, {"piano": 0.0})
    levels = {"violin": 0.0, "piano": -6.0}
    np.testing.assert_array_equal(song.excerpt("second", 30_000, levels), again.excerpt("second", 30_000, levels))


def test_sample_key_names_seed_and_scale() -> None:
    keys = {sample_key(seed, scale) for seed in (0, 1, 0) for scale in (1, 4, 1)}
    assert [len(key) for key in keys] == [16, 16, 16, 16]


@pytest.mark.parametrize("arguments", [{"scale": 0}, {"scale": 101}, {"workers": 0}])
def test_nonsense_is_a_usage_error(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        write_sample_mirror(tmp_path, **arguments)  # type: ignore[arg-type]


def test_checksums_of_an_earlier_sample_go_before_anything_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text("of an earlier sample")
    (tmp_path / "zenodo.org").write_text("a file where a folder should be")
    with pytest.raises(OSError, match=r"zenodo\.org"):
        write_sample_mirror(tmp_path, workers=1, size=TINY)
    assert not (tmp_path / "SHA256SUMS").exists()


def test_checksums_list_every_file_but_those_about_the_sample_itself(mirror: Path) -> None:
    lines = (mirror / "SHA256SUMS").read_text().splitlines()
    listed = [line.split("  ", 1) for line in lines]
    assert [name for _, name in listed] == sorted(
        path.relative_to(mirror).as_posix()
        for path in mirror.rglob("*")
        if path.is_file() and path.name not in ("README.md", "TRUTH.json", "SHA256SUMS")
    )
    assert all(hashlib.sha256((mirror / name).read_bytes()).hexdigest() == digest for digest, name in listed)


def test_layout_is_that_of_the_mirror_of_real_recordings(mirror: Path, shared: Path) -> None:
    def paths(root: Path) -> set[str]:
        names = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        return {name for name in names if not name.startswith((VIDEOS, "download.magenta", *MULTITRACK))}

    real = shared / "mirror"
    assert paths(mirror) == paths(real)
    truth, of_real = (json.loads((root / "TRUTH.json").read_text()).keys() for root in (mirror, real))
    assert truth - {"slakh"} == of_real
    metadata = "openmic-2018/openmic-2018-metadata.csv"
    assert openmic_members(mirror)[metadata].splitlines()[0] == openmic_members(real)[metadata].splitlines()[0]
    assert openmic_members(mirror)["openmic-2018/class-map.json"] == (shared / "labels/class-map.json").read_bytes()
    table = (shared / "labels/class_labels_indices.csv").read_text().splitlines()
    assert set((mirror / CSVS / "class_labels_indices.csv").read_text().splitlines()) <= set(table)


def test_train_names_follow_the_published_pattern_and_song_numbers_are_not_unique(mirror: Path) -> None:
    keys, classical = [], set()
    for path in train_wavs(mirror):
        folder, code, name = path.split("/")
        match = TRAIN_NAME.fullmatch(name)
        assert match is not None, path
        assert (folder, match["inst"]) == ("IRMAS-TrainingData", code)
        assert (match["n"] is None) == (match["drum"] is None), path
        keys.append((match["song"], match["part"]))
        classical |= {code} if match["genre"] == "cla" else set()
    assert len(keys) > len(set(keys))
    assert classical > {"cla"}  # the bracket's place decides between clarinet and classical


def test_train_clips_are_stereo_16_bit_and_one_frame_short_of_three_seconds(
    mirror: Path, truth: dict[str, Any]
) -> None:
    odd = {truth["short"][0], truth["undecodable"][0]}
    sizes = {len(content) for path, content in train_wavs(mirror).items() if path not in odd}
    assert sizes == {529_240}
    info = soundfile.info(io.BytesIO(train_wavs(mirror)[truth["silent"][0]]))
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (132_299, 44_100, 2, "PCM_16")


def test_every_test_clip_has_an_annotation_of_codes_each_followed_by_a_tab(mirror: Path) -> None:
    members = excerpt_members(mirror)
    wavs = {name.removesuffix(".wav") for name in members if name.endswith(".wav")}
    assert wavs == {name.removesuffix(".txt") for name in members if name.endswith(".txt")}
    assert {name.rpartition("/")[0] for name in wavs} == {
        "IRMAS-TestingData-Part1/Part1",
        "IRMAS-TestingData-Part2/IRTestingData-Part2",
        "IRMAS-TestingData-Part3/Part3",
    }
    for name in wavs:
        assert re.fullmatch(rb"([a-z]{3}\t\n){1,3}", members[f"{name}.txt"])
        assert 5 <= soundfile.info(io.BytesIO(members[f"{name}.wav"])).duration <= 8


def test_one_test_zip_holds_utf8_names_without_saying_so(mirror: Path) -> None:
    with zipfile.ZipFile(mirror / IRMAS / "IRMAS-TestingData-Part2.zip") as archive:
        infos = archive.infolist()
    assert [info.flag_bits & 0x800 for info in infos] == [0] * len(infos)
    assert "IRMAS-TestingData-Part2/IRTestingData-Part2/Canção do vento" in {
        repair_name(info).rpartition("-")[0] for info in infos
    }
    assert not any("Canção" in info.filename for info in infos)  # what a naive reader sees is mojibake


def test_openmic_clips_are_vorbis_of_exactly_ten_seconds(mirror: Path, truth: dict[str, Any]) -> None:
    for name, content in openmic_members(mirror).items():
        if name.endswith(".ogg") and Path(name).stem not in truth["undecodable"]:
            info = soundfile.info(io.BytesIO(content))
            assert (info.frames, info.samplerate, info.channels, info.subtype) == (441_000, 44_100, 2, "VORBIS")
            assert name == f"openmic-2018/audio/{Path(name).stem[:3]}/{Path(name).stem}.ogg"


def test_openmic_answers_agree_with_what_sounds(mirror: Path, truth: dict[str, Any]) -> None:
    codes = {"cello": "cel", "clarinet": "cla", "flute": "flu", "organ": "org", "piano": "pia", "saxophone": "sax"}
    codes |= {"trumpet": "tru", "violin": "vio", "voice": "voi"}
    rows = [row for row in openmic_rows(mirror, "aggregated-labels") if row["instrument"] in codes]
    assert len(rows) > 8
    for row in rows:
        sounds = codes[row["instrument"]] in truth["openmic_instruments"][row["sample_key"]]
        assert sounds == (float(row["relevance"]) >= 0.5), row


def test_openmic_metadata_is_hard_to_parse_and_partitions_share_no_artist(mirror: Path) -> None:
    rows = openmic_rows(mirror, "metadata")
    assert len(rows[0]) == 41
    assert any("\n" in row["track_title"] for row in rows)
    assert any("<p>" in row["track_information"] and "," in row["track_information"] for row in rows)
    assert len({row["license_url"] for row in rows}) > 1
    artist = {row["sample_key"]: row["artist_id"] for row in rows}
    lists = [openmic_members(mirror)[f"openmic-2018/partitions/split01_{name}.csv"] for name in ("train", "test")]
    train, test = (content.decode().split() for content in lists)
    assert (len(train), len(test)) == (6, 2)
    assert sorted(train + test) == sorted(artist)
    assert not {artist[key] for key in train} & {artist[key] for key in test}


def test_openmic_arrays_are_those_of_upstream_with_a_pickle_for_the_keys(mirror: Path) -> None:
    content = openmic_members(mirror)["openmic-2018/openmic-2018.npz"]
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        assert set(arrays.files) == {"X", "Y_true", "Y_mask", "sample_key"}
        assert arrays["X"].shape == (8, 10, 128)
        assert set(arrays["Y_true"][~arrays["Y_mask"]]) == {0.5}
        with pytest.raises(ValueError, match="allow_pickle"):
            arrays["sample_key"]


def test_segment_lists_have_upstreams_header_and_ids_that_are_hard_to_handle(mirror: Path) -> None:
    lines = (mirror / CSVS / "eval_segments.csv").read_text().splitlines()
    assert re.fullmatch(r"# Segments csv created .+ 2017", lines[0])
    assert lines[1].startswith(f"# num_ytids={len(lines) - 3}, num_segs={len(lines) - 3}, num_unique_labels=")
    assert lines[2] == "# YTID, start_seconds, end_seconds, positive_labels"
    assert all(re.fullmatch(r'[\w-]{11}, \d+\.\d{3}, \d+\.\d{3}, "/[^"]+"', line) for line in lines[3:])
    ids = [row[0] for row in segment_rows(mirror)]
    assert len({name.casefold() for name in ids}) == len(ids)  # a disk may ignore case
    assert {name[0] for name in ids} >= {"-", "_"}


def test_videos_last_longer_than_their_segments(mirror: Path, truth: dict[str, Any]) -> None:
    ends_s = {row[0]: float(row[2]) for row in segment_rows(mirror)}
    videos = [path for path in (mirror / VIDEOS).iterdir() if path.stem not in truth["undecodable"]]
    assert len(videos) == 5
    for path in videos:
        samples, rate = video_samples(path)
        assert rate == {".webm": 48_000, ".m4a": 44_100}[path.suffix]
        assert samples.shape[1] / rate > ends_s[path.stem] + 0.5


def test_ontology_and_class_table_know_every_label(mirror: Path) -> None:
    nodes = json.loads((mirror / "raw.githubusercontent.com/audioset/ontology/master/ontology.json").read_text())
    known = {node["id"] for node in nodes}
    assert {child for node in nodes for child in node["child_ids"]} <= known
    table = {row["mid"] for row in csv.DictReader((mirror / CSVS / "class_labels_indices.csv").open())}
    assert {mid for row in segment_rows(mirror) for mid in row[3].split(",")} <= table <= known


def test_short_and_silent_items_are_what_they_are_called(mirror: Path, truth: dict[str, Any]) -> None:
    assert 0.5 < len(wav_samples(train_wavs(mirror)[truth["short"][0]])) / SAMPLE_RATE < 1
    wav, video = truth["silent"]
    assert 0 < np.abs(wav_samples(train_wavs(mirror)[wav])).max() < 1e-3
    (path,) = (mirror / VIDEOS).glob(f"{video}.*")
    (row,) = (row for row in segment_rows(mirror) if row[0] == video)
    audio, rate = video_samples(path)
    start, end = round(float(row[1]) * rate), round(float(row[2]) * rate)
    assert np.mean(np.abs(audio[:, start:end]) < 1e-3) > 0.95
    assert np.abs(audio[:, end + rate // 10 :]).max() > 0.05  # the rest of the video is not


def test_undecodable_items_are_cut_off(mirror: Path, truth: dict[str, Any]) -> None:
    wav, ogg, video = truth["undecodable"]
    content = train_wavs(mirror)[wav]
    assert len(content) == 30
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(io.BytesIO(content))
    (content,) = (content for name, content in openmic_members(mirror).items() if name.endswith(f"/{ogg}.ogg"))
    last_page = content[content.rfind(b"OggS") :]
    assert last_page[5] & 4 == 0  # RFC 3533: the flag of a stream's end page
    (path,) = (mirror / VIDEOS).glob(f"{video}.*")
    with pytest.raises(av.error.InvalidDataError):
        av.open(path)


def test_duplicates_are_identical_with_labels_that_clash_or_agree(mirror: Path, truth: dict[str, Any]) -> None:
    (guitar, other), videos = truth["duplicates"]
    wavs = train_wavs(mirror)
    assert wavs[guitar] == wavs[other]
    assert (guitar.split("/")[1], other.split("/")[1]) == ("gac", "gel")
    first, second = (next((mirror / VIDEOS).glob(f"{name}.*")).read_bytes() for name in videos)
    assert first == second
    rows = {row[0]: row[1:] for row in segment_rows(mirror)}
    assert rows[videos[0]] == rows[videos[1]]


def test_gone_videos_have_a_row_and_no_file(mirror: Path, truth: dict[str, Any]) -> None:
    assert len(truth["gone"]) == 4
    assert set(truth["gone"]) <= {row[0] for row in segment_rows(mirror)}
    assert not set(truth["gone"]) & {path.stem for path in (mirror / VIDEOS).iterdir()}


def test_mislabelled_items_name_another_instrument_than_the_label(mirror: Path, truth: dict[str, Any]) -> None:
    wrong = truth["irmas_mislabelled"]
    assert [path.split("/")[1] for path in wrong] == [item["labelled"] for item in wrong.values()]
    assert set(wrong) <= set(train_wavs(mirror))
    items = [*wrong.values(), *truth["audioset_mislabelled"].values()]
    assert len(items) == 3
    assert all(item["labelled"] != item["really"] for item in items)


def fundamental_hz(signal: NDArray[np.float64], expected_hz: float) -> float:
    """Inverse of the lag of the greatest autocorrelation within a fourth of what is expected."""
    spectrum = np.fft.rfft(signal * np.hanning(len(signal)), 2 * len(signal))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)
    lags = np.arange(int(0.75 * SAMPLE_RATE / expected_hz), int(1.34 * SAMPLE_RATE / expected_hz) + 2)
    best = int(lags[np.argmax(correlation[lags])])
    before, here, after = correlation[best - 1 : best + 2]
    return float(SAMPLE_RATE / (best + 0.5 * (before - after) / (before - 2 * here + after)))


@pytest.mark.parametrize(
    ("instrument", "variant"), [(name, variant) for name, spec in INSTRUMENTS.items() for variant in spec.variants]
)
def test_a_note_is_finite_within_full_scale_and_has_the_pitch_that_was_asked_for(instrument: str, variant: str) -> None:
    low, high = INSTRUMENTS[instrument].compass(variant)
    for midi in (low, (low + high) // 2, high):
        signal = note(instrument, midi=midi, duration_s=0.8, timbre=Timbre(variant), rng=rng_for(0, instrument, midi))
        assert signal.shape == (35_280,)
        assert np.isfinite(signal).all()
        assert np.abs(signal).max() == pytest.approx(0.9)
        cents = 1200 * np.log2(fundamental_hz(signal[8820:30_870], midi_to_hz(midi)) / midi_to_hz(midi))
        assert abs(cents) < 40, (midi, cents)


def test_songs_of_one_instrument_differ_and_an_excerpt_is_never_silent() -> None:
    excerpts = [Song(0, name, ("flute",)).excerpt("", 66_150, {"flute": 0.0}) for name in ("one", "another")]
    assert not np.array_equal(*excerpts)
    assert all((pcm.dtype, pcm.shape) == (np.int16, (66_150, 2)) for pcm in excerpts)
    assert min(np.abs(pcm[:66_000]).reshape(-1, 11_000, 2).max(axis=(1, 2)).min() for pcm in excerpts) > 200


def test_an_ogg_file_gets_the_serial_number_that_it_is_given_and_stays_valid() -> None:
    pcm = Song(0, "ogg", ("organ",)).excerpt("", 60_000, {"organ": 0.0})
    content = ogg_bytes(pcm, serial=0x12345678)
    assert content[14:18] == bytes.fromhex("78563412")
    decoded, _ = soundfile.read(io.BytesIO(content))  # libogg drops pages with a wrong checksum
    assert len(decoded) == 60_000
    assert np.corrcoef(decoded[:, 0], pcm[:, 0])[0, 1] > 0.95
