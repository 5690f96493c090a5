"""Folders of the user's own (`--data-from`): which source reads which, and where archives are looked for."""

import hashlib
import zipfile
from pathlib import Path

import pytest
from medley_songs import put, write_song

from tutti.datasets.errors import UsageError
from tutti.datasets.record import Media
from tutti.datasets.sources import irmas, medleydb, mixing_secrets
from tutti.pipelines.acquisition.origins import Origins
from tutti.pipelines.build.arguments import parse
from tutti.pipelines.build.inputs import recipe_inputs
from tutti.pipelines.build.plan import own_folders_of, plan_build, with_own_folder
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.recipe import Recipe, load_recipe
from tutti.pipelines.stages.fetch import fetch_local
from tutti.pipelines.stages.split import SplitConfig, grouped

SONGS = Recipe(
    name="songs",
    sources={"medleydb": medleydb.Config(), "mixing_secrets": mixing_secrets.Config(), "irmas": irmas.Config()},
    split=SplitConfig(rules=grouped(65, 17.5, 17.5)),
)


def test_sources_of_songs_share_all_folders_and_number_them(tmp_path):
    folders = [str(tmp_path / name) for name in ("one", "two")]
    for folder in folders:
        Path(folder).mkdir()
    recipe, roots = with_own_folder(SONGS, [*folders, folders[0]])

    assert recipe.sources["medleydb"].roots == recipe.sources["mixing_secrets"].roots == tuple(folders)
    assert roots == (
        ("medleydb/0", folders[0]), ("medleydb/1", folders[1]),
        ("mixing_secrets/0", folders[0]), ("mixing_secrets/1", folders[1]),
    )  # fmt: skip
    assert {one.path for one in recipe_inputs(recipe)} == set(folders)


def test_without_a_folder_those_of_the_mirror_are_read(tmp_path):
    put(tmp_path, "user/MedleyDB/x")
    put(tmp_path, "previews.cambridge-mt.com/Home_Full_Preview.mp3")
    put(tmp_path, "zenodo.org/records/1290750/files/x")
    folders = [str(tmp_path / "user"), str(tmp_path / "previews.cambridge-mt.com")]

    assert own_folders_of(str(tmp_path), SONGS) == folders
    assert own_folders_of(str(tmp_path), load_recipe("medleydb")) == folders[:1]
    assert own_folders_of(str(tmp_path / "user"), SONGS) == []
    assert own_folders_of("https://mirror.example", SONGS) == []
    assert own_folders_of(None, SONGS) == []
    recipe, _ = with_own_folder(SONGS, [], own_folders_of(str(tmp_path), SONGS))
    assert recipe.sources["medleydb"].roots == tuple(folders)


def test_the_mirrors_folder_is_none_for_a_source_with_labels_of_its_own(tmp_path):
    put(tmp_path, "user/labels.csv")
    recipe = load_recipe("folder")

    with pytest.raises(UsageError, match="needs exactly one --data-from DIR"):
        with_own_folder(recipe, [], own_folders_of(str(tmp_path), recipe))


def test_songs_without_a_folder_are_a_usage_error():
    with pytest.raises(UsageError, match="medleydb: no folder; pass --data-from DIR, once or more"):
        with_own_folder(load_recipe("medleydb"), [])


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="--data-from /nowhere/at/all: no such folder"):
        with_own_folder(load_recipe("medleydb"), ["/nowhere/at/all"])


def own_roots_of(dataset: str, folder: Path, cache: Path) -> tuple[str, ...]:
    arguments, _ = parse(["--dataset", dataset, "--data-from", str(folder), "--cache-dir", str(cache)])
    return plan_build(arguments).origins.own_roots


def test_archives_are_looked_for_in_the_same_folders_where_a_source_has_any(tmp_path):
    folder = put(tmp_path, "songs/x").parent

    assert own_roots_of("medleydb", folder, tmp_path / "cache") == ()
    assert own_roots_of("irmas", folder, tmp_path / "cache") == (str(folder),)


def test_a_file_of_a_numbered_folder_is_copied_into_the_cache(tmp_path):
    write_song(tmp_path / "b", "A_B", {"S01": "piano"}, audio={"A_B_STEM_01.wav": b"a stem"})
    origins = Origins(local_roots=(("medleydb/0", str(tmp_path / "a")), ("medleydb/1", str(tmp_path / "b"))))
    cache = Cache(tmp_path / "cache")
    media = fetch_local(Media("medleydb/1:A_B/A_B_STEMS/A_B_STEM_01.wav"), origins, cache)

    assert media is not None
    assert media.sha256 == hashlib.sha256(b"a stem").hexdigest()
    assert cache.read_blob(media.sha256) == b"a stem"


def test_a_file_whose_name_is_no_unicode_is_found_by_its_address(tmp_path):
    put(tmp_path, "A_B_Full/01_Kick.wav")
    put(tmp_path, "A_B_Full/02_50% B\udcfcss.wav", b"a bass")
    recordings = mixing_secrets.read({}, mixing_secrets.Config(roots=(str(tmp_path),)))
    media = next(one.media for one in recordings if "02_" in one.media.url)
    media.url.encode("utf-8")  # it can be written down
    found = fetch_local(media, Origins(local_roots=(("mixing_secrets/0", str(tmp_path)),)), Cache(tmp_path / "cache"))

    assert found is not None
    assert found.sha256 == hashlib.sha256(b"a bass").hexdigest()


def test_of_a_member_the_zip_is_copied(tmp_path):
    with zipfile.ZipFile(tmp_path / "A_B_Full.zip", "w") as archive:
        archive.writestr("01_Kick.wav", b"a kick")
    origins = Origins(local_roots=(("mixing_secrets/0", str(tmp_path)),))
    wanted = Media("mixing_secrets/0:A_B_Full.zip", "01_Kick.wav")
    media = fetch_local(wanted, origins, Cache(tmp_path / "cache"))

    assert media is not None
    assert media.member == "01_Kick.wav"
    assert media.sha256 == hashlib.sha256((tmp_path / "A_B_Full.zip").read_bytes()).hexdigest()


def test_an_address_of_no_own_folder_is_left_to_others(tmp_path):
    origins = Origins(local_roots=(("medleydb/0", str(tmp_path)),))

    assert fetch_local(Media("https://www.youtube.com/watch?v=abc"), origins, Cache(tmp_path / "cache")) is None
