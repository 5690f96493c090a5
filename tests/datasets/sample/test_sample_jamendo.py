"""The sample's MTG-Jamendo: upstream's layout, what was planted, the same bytes every time."""

import hashlib
import io
import tarfile
from pathlib import Path

import jamendo_mirror
import pytest
from conftest import SHARED

from tutti.datasets.audio import decode
from tutti.datasets.record import Recording
from tutti.datasets.sample import jamendo
from tutti.datasets.source import LocalFile
from tutti.datasets.sources import mtg_jamendo
from tutti.datasets.sources.mtg_jamendo import Config


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("jamendo")
    jamendo_mirror.write_mirror(root)
    return root


def read(mirror: Path, config: Config) -> list[Recording]:
    files = {}
    for remote in mtg_jamendo.remotes(config):
        path = mirror / remote.url.partition("://")[2]
        files[remote.name] = LocalFile("mtg_jamendo", remote, path, "0" * 64, path.stat().st_size, "mirror")
    return list(mtg_jamendo.read(files, config))


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}  # type: ignore[union-attr]


def test_the_reader_understands_every_table(mirror: Path) -> None:
    assert len(read(mirror, Config(split=None))) == 14
    for split in range(5):
        assert len(read(mirror, Config(split=split, licenses=True))) == 13, "no split knows the ukulele"
    assert all(clip.license.startswith("http://creativecommons.org/licenses/by")
               for recording in read(mirror, Config(licenses=True)) for clip in recording.clips)  # fmt: skip


@pytest.mark.parametrize("quality", ["audio", "audio-low"])
def test_all_but_the_planted_track_are_in_their_tars_with_their_digests(mirror: Path, quality: str) -> None:
    config = Config(split=None, quality=quality)  # type: ignore[arg-type]
    lacking = []
    for recording in read(mirror, config):
        media = recording.media
        held = members(mirror / media.url.partition("://")[2])
        assert media.published is not None
        if media.member not in held:
            lacking.append(media.member)
            continue
        assert hashlib.sha256(held[media.member]).hexdigest() == media.published.member_sha256
        audio = decode(held[media.member], media.member)
        truncated = recording.clips[0].recording == "track_1090014"
        assert audio.waveform.shape[1] / audio.sample_rate == pytest.approx(1.6 if truncated else 5.0, abs=0.15)
    assert lacking == ["14/1095214.mp3" if quality == "audio" else "14/1095214.low.mp3"]


def test_a_tar_begins_with_its_folder_as_upstreams(mirror: Path) -> None:
    content = (mirror / jamendo.AUDIO / "audio/raw_30s_audio-14.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.getnames()[0] == "14"


def test_a_copy_has_the_bytes_of_the_track_of_another_artist(mirror: Path) -> None:
    held = members(mirror / jamendo.AUDIO / "audio/raw_30s_audio-00.tar")
    assert held["00/1000000.mp3"] == held["00/1090100.mp3"]


def test_the_same_seed_gives_the_same_bytes(mirror: Path) -> None:
    tracks = jamendo.plan_tracks(jamendo_mirror.SEED, 1)
    again = dict(jamendo.files_of(tracks, map(jamendo.render_track, tracks)))
    assert members(mirror / jamendo.AUDIO / "audio/raw_30s_audio-14.tar")["14/1090014.mp3"] in again[
        f"{jamendo.AUDIO}/audio/raw_30s_audio-14.tar"
    ]  # fmt: skip


def test_layout_is_that_of_the_mirror_of_real_recordings(mirror: Path) -> None:
    real = SHARED / "multitrack" / "mirror"
    if not real.is_dir():
        pytest.skip("the mirror of real recordings is not here")
    folders = {path.parent.relative_to(mirror).as_posix() for path in mirror.rglob("*jamendo*/**/*") if path.is_file()}
    for path in (path for path in real.rglob("*") if path.is_file() and "jamendo" in path.as_posix()):
        assert path.parent.relative_to(real).as_posix() in folders
