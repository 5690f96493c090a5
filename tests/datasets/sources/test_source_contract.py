"""What every source promises, tried on every file of `datasets/sources` and on real archives.

A source that downloads nothing (the user's own files) is tried on a synthesized example: see LOCAL.
"""

import ast
import dataclasses
import functools
import gzip
import inspect
import io
import shutil
import tarfile
import urllib.parse
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from medley_songs import write_song
from midi_files import tune, write_pair
from signals import silence

from tutti.datasets.archive import open_archive
from tutti.datasets.errors import UsageError
from tutti.datasets.record import ABSENT, PRESENT, Clip, Recording
from tutti.datasets.scores.soundfonts import find_soundfonts
from tutti.datasets.source import LocalFile, is_streamed, load_source, remotes_of, source_names
from tutti.datasets.sources import folder, medleydb, mixing_secrets, musescore, rendered
from tutti.datasets.taxonomy import INSTRUMENTS

NAMES = source_names()
NOT_LABELS = (".wav", ".ogg", ".mp3", ".flac", ".npz")  # members that no reader may open


def folder_example(root: Path) -> folder.Config:
    (root / "labels.csv").write_text("path,group,cello,piano\na.wav,g,1,0\nb.wav,g,,1\nc.wav,,0,\n")
    for name in ("a.wav", "b.wav", "c.wav"):
        (root / name).touch()
    return folder.Config(root=str(root))


def musescore_example(root: Path) -> musescore.Config:
    for number in (1, 2):
        write_pair(root, str(number), tune(number), silence(0.1))
    return musescore.Config(root=str(root))


def rendered_example(root: Path) -> rendered.Config:
    try:
        find_soundfonts()
    except UsageError as error:
        pytest.skip(str(error))
    del root  # composed pieces have no input
    return rendered.Config(scores=2)


def medleydb_example(root: Path) -> medleydb.Config:
    write_song(root / "Audio", "LizNelson_Rainfall", stems={"S01": "piano", "S02": "female singer"})
    write_song(root / "V2", "Torres_NewSkin", stems={"S01": "drum set", "S02": "Main System"}, has_bleed="yes")
    return medleydb.Config(roots=(str(root),))


def mixing_secrets_example(root: Path) -> mixing_secrets.Config:
    write_song(root, "Leaf_Summerghost", stems={"S01": "bass"}, origin="Mixing Secrets", version="3.0")
    write_zip(root / "Actions_OneMinuteSmile_Full.zip", {"01_Kick.wav": b"", "02_LeadVox.wav": b""})
    return mixing_secrets.Config(roots=(str(root),))


LOCAL: dict[str, Callable[[Path], Any]] = {
    "folder": folder_example,
    "medleydb": medleydb_example,
    "mixing_secrets": mixing_secrets_example,
    "musescore": musescore_example,
    "rendered": rendered_example,
}

Example = tuple[dict[str, LocalFile], Any]


@pytest.fixture(scope="session")
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Example]:
    """Files and configuration of a source: from the mirror of real recordings, or synthesized."""
    made: dict[str, Example] = {}

    def make(name: str) -> Example:
        if name not in made:
            folder_path = tmp_path_factory.mktemp(name)
            if load_source(name).REMOTES:
                config = load_source(name).Config()
                made[name] = mirror_files(name, config, request.getfixturevalue("shared"), folder_path), config
            else:
                assert name in LOCAL, f"{name} downloads nothing: add an example of its files to LOCAL"
                made[name] = {}, LOCAL[name](folder_path)
        return made[name]

    return make


def mirror_files(name: str, config: Any, shared: Path, scratch: Path) -> dict[str, LocalFile]:
    """A source's files as the download stage hands them over: gzipped tars unpacked to plain ones."""
    mirrors = [mirror for mirror in (shared / "mirror", shared / "multitrack" / "mirror") if mirror.is_dir()]
    files = {}
    for remote in remotes_of(name, config):
        place = remote.url.partition("://")[2]
        mirror = next((mirror for mirror in mirrors if (mirror / place).is_file()), None)
        if mirror is None and remote.optional:
            continue
        if mirror is None:
            pytest.skip(f"no mirror holds {place}")
        path = mirror / place
        if path.name.endswith((".tgz", ".tar.gz")):
            path = scratch / f"{remote.name}.tar"
            with gzip.open(mirror / place) as packed, path.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
        files[remote.name] = LocalFile(name, remote, path, sums_of(mirror)[place], path.stat().st_size, "mirror")
    return files


@functools.cache
def sums_of(mirror: Path) -> dict[str, str]:
    """Path -> digest."""
    lines = (mirror / "SHA256SUMS").read_text().splitlines()
    return {path: digest for digest, path in (line.split(maxsplit=1) for line in lines)}


def read(name: str, example: Example) -> list[Recording]:
    """All recordings of a source, in the order of their first clip's id."""
    files, config = example
    return sorted(load_source(name).read(files, config), key=lambda recording: recording.clips[0].id)


def clips_of(name: str, example: Example) -> list[Clip]:
    clips = [clip for recording in read(name, example) for clip in recording.clips]
    assert clips, f"{name}: the example holds no clip"
    return clips


@pytest.mark.parametrize("name", NAMES)
def test_card_is_filled(name: str) -> None:
    card = load_source(name).CARD
    assert card.title
    assert card.license
    assert card.license_note
    assert card.citation
    if load_source(name).REMOTES:  # a corpus that somebody publishes
        assert card.homepage.startswith("https://")
        assert card.license_url.startswith("https://")
        assert card.num_clips > 0
        assert card.size_bytes > 0


@pytest.mark.parametrize("name", NAMES)
def test_remote_files_have_unique_names_and_canonical_urls(name: str) -> None:
    remotes = load_source(name).REMOTES
    assert len({remote.name for remote in remotes}) == len(remotes)
    assert len({remote.url for remote in remotes}) == len(remotes)
    for remote in remotes:
        url = urllib.parse.urlsplit(remote.url)
        assert url.scheme in ("http", "https")
        assert url.hostname
        assert url.query == ""
        assert url.fragment == ""
        assert Path(url.path).suffix, "the file name that errors show"


@pytest.mark.parametrize("name", NAMES)
def test_checksums_are_lowercase_hexadecimal_digests(name: str) -> None:
    for remote in load_source(name).REMOTES:
        for digest, length in ((remote.md5, 32), (remote.sha256, 64)):
            assert digest is None or (len(digest) == length and set(digest) <= set("0123456789abcdef"))


@pytest.mark.parametrize("name", NAMES)
def test_instruments_are_named_as_in_the_taxonomy(name: str) -> None:
    instruments = load_source(name).INSTRUMENTS
    assert set(instruments) <= set(INSTRUMENTS)
    assert len(set(instruments)) == len(instruments)


@pytest.mark.parametrize("name", NAMES)
def test_config_is_a_frozen_documented_dataclass_that_needs_no_arguments(name: str) -> None:
    config_type = load_source(name).Config
    assert dataclasses.is_dataclass(config_type)
    assert config_type() == config_type()
    assert not (config_type.__doc__ or "").startswith("Config("), "dataclasses write that docstring themselves"
    for field in dataclasses.fields(config_type):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config_type(), field.name, None)


@pytest.mark.parametrize("name", NAMES)
def test_module_follows_the_order_that_every_source_has(name: str) -> None:
    tree = ast.parse(inspect.getsource(load_source(name)))  # type: ignore[arg-type]
    assert ast.get_docstring(tree)
    lines = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for title in [getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)]:
            lines[title] = node.lineno
    order = [lines[title] for title in ("CARD", "REMOTES", "INSTRUMENTS", "PARTITIONS", "Config", "read")]
    assert order == sorted(order)


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_unique_and_prefixed_with_the_source(name: str, example: Callable[[str], Example]) -> None:
    clips = clips_of(name, example(name))
    assert len({clip.id for clip in clips}) == len(clips)
    for clip in clips:
        assert clip.source == name
        assert clip.id.startswith(f"{name}/")
        assert clip.id.endswith(f"@{round(clip.start_s * 1000)}")
        assert clip.group.startswith(f"{name}/")


@pytest.mark.parametrize("name", NAMES)
def test_partitions_are_the_declared_ones(name: str, example: Callable[[str], Example]) -> None:
    partitions = {clip.partition for clip in clips_of(name, example(name))}
    assert partitions <= set(load_source(name).PARTITIONS)


@pytest.mark.parametrize("name", NAMES)
def test_labels_speak_of_declared_instruments_only(name: str, example: Callable[[str], Example]) -> None:
    source: Any = load_source(name)
    declared = source.INSTRUMENTS or source.instruments(example(name)[1])
    labels = [item for clip in clips_of(name, example(name)) for item in clip.labels.items()]
    assert labels
    for instrument, label in labels:
        assert instrument in declared
        assert label.presence in (PRESENT, ABSENT)
        assert label.origin in ("human", "crowd", "weak", "score")
        assert label.confidence is None or 0.0 <= label.confidence <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_times_and_licences_are_sensible(name: str, example: Callable[[str], Example]) -> None:
    for clip in clips_of(name, example(name)):
        assert clip.start_s >= 0.0
        assert clip.end_s is None or clip.end_s > clip.start_s
        assert clip.declared_s is None or clip.declared_s > 0.0
        assert clip.license
        assert (clip.audio, clip.quality, clip.split, clip.shard) == (None, None, None, None)


@pytest.mark.parametrize("name", NAMES)
def test_archive_media_name_a_remote_file_a_real_member_and_its_digest(
    name: str, example: Callable[[str], Example]
) -> None:
    files = example(name)[0]
    by_url = {file.remote.url: file for file in files.values()}
    for recording in read(name, example(name)):
        media = recording.media
        if media.member is None or media.url not in by_url:  # a member of a zip of the user's own
            assert media.sha256 is None  # the download or the fetch stage fills it
        elif is_streamed(name):
            assert media.sha256 is None
            assert media.url.endswith(".tar")
            assert media.published is not None
        else:
            file = by_url[media.url]
            assert media.sha256 == file.sha256
            assert media.member in set(open_archive(file.path, file.remote.name).names())


@pytest.mark.parametrize("name", NAMES)
def test_no_row_holds_a_path_of_this_machine(name: str, example: Callable[[str], Example]) -> None:
    files, config = example(name)
    places = [str(file.path.parent) for file in files.values()] + [getattr(config, "root", "") or "no root"]
    places += getattr(config, "roots", ())
    for recording in read(name, example(name)):
        assert not any(place in repr(recording) for place in places)


@pytest.mark.parametrize("name", NAMES)
def test_rows_depend_neither_on_the_order_of_the_archive_nor_on_its_audio(
    name: str, example: Callable[[str], Example], tmp_path: Path
) -> None:
    files, config = example(name)
    rewritten = {key: rewrite(file, tmp_path / key) for key, file in files.items()}
    if rewritten == files:
        pytest.skip(f"{name} has no archive")
    assert read(name, (rewritten, config)) == read(name, (files, config))


def rewrite(file: LocalFile, path: Path) -> LocalFile:
    """The same archive backwards, with every audio member empty; any other file as it is."""
    if not (zipfile.is_zipfile(file.path) or tarfile.is_tarfile(file.path)):
        return file
    archive = open_archive(file.path, file.remote.name)
    backwards = reversed(list(archive.names()))
    members = {name: b"" if name.lower().endswith(NOT_LABELS) else archive.read(name) for name in backwards}
    (write_zip if zipfile.is_zipfile(file.path) else write_tar)(path, members)
    return dataclasses.replace(file, path=path)


def write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
