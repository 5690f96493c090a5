"""A hundred random faults: each is found, under its right name, and what a cache can mend is mended."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from damage import flip, sealed_copy, swap

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import file_sha256, manifest_path, read_manifest
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.verify.__main__ import main, repairable
from tutti.pipelines.verify.check import verify
from tutti.pipelines.verify.repair import repair

SHARDS = [f"data/{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")]


@pytest.fixture(scope="module")
def sound(sample_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_copy(sample_build, tmp_path_factory.mktemp("sound"))


@pytest.fixture
def version(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "versions" / sound.name)


@pytest.fixture(scope="session")
def cache(sample_build: Path, session_folder: Path) -> Cache:
    return Cache(session_folder / "sample-cache")


def digests(version: Path) -> dict[str, str]:
    files = (path for path in version.rglob("*") if path.is_file())
    return {path.relative_to(version).as_posix(): file_sha256(path) for path in sorted(files)}


def faults(names: list[str], num_bytes: dict[str, int], seed: int) -> Iterator[tuple[str, list[str], int]]:
    """(what, files, bit): flips, deletions and swaps, each of which changes something."""
    rng = np.random.default_rng(seed)
    weight = np.array([len(names) if name.startswith("data/") else 3 for name in names], float)  # half of it in shards
    while True:
        what = str(rng.choice(["flip", "flip", "delete", "swap"]))
        chosen = [
            str(name) for name in rng.choice(names, 2 if what == "swap" else 1, replace=False, p=weight / weight.sum())
        ]
        yield what, chosen, int(rng.integers(8 * num_bytes[chosen[0]]))


def damage(version: Path, what: str, names: list[str], bit: int) -> None:
    if what == "flip":
        flip(version / names[0], bit)
    elif what == "delete":
        (version / names[0]).unlink()
    else:
        swap(version / names[0], version / names[1])


def expected_kinds(what: str, names: list[str]) -> set[str]:
    """How the fault may be called."""
    if what == "delete":
        return {"missing"}
    if what == "flip":
        return {"corrupt", "tampered"}
    derived = {"README.md", "manifest/manifest.json"} & set(names)
    return {"corrupt"} if derived else {"swapped"}


def test_of_a_hundred_random_faults_a_hundred_are_found_and_named(sound: Path, tmp_path: Path) -> None:
    names = [name for name in digests(sound) if name != "manifest/manifest.json"]
    num_bytes = {name: (sound / name).stat().st_size for name in names}
    generator = faults(names, num_bytes, seed=5)
    found = 0
    for number in range(100):
        version = shutil.copytree(sound, tmp_path / str(number) / "versions" / sound.name)
        what, chosen, bit = next(generator)
        damage(version, what, chosen, bit)
        findings = verify(read_manifest(version))
        allowed = expected_kinds(what, chosen)
        named = {finding.path for finding in findings} == set(chosen)
        kinds = {finding.kind for finding in findings} - {"tampered"} <= allowed | {"corrupt"}
        right = named and kinds and any(finding.kind in allowed for finding in findings)
        assert right, (what, chosen, bit, [str(finding) for finding in findings])
        found += right
        shutil.rmtree(version.parent)
    assert found == 100


def test_a_flipped_bit_anywhere_in_manifest_json_is_found(sound: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    size = manifest_path(sound).stat().st_size
    for number, bit in enumerate(rng.integers(8 * size, size=20)):
        version = shutil.copytree(sound, tmp_path / str(number) / "versions" / sound.name)
        flip(manifest_path(version), int(bit))
        assert main([str(version)]) == 3
        shutil.rmtree(version)


# --- repair


@pytest.mark.parametrize("what", ["flip", "delete", "swap", "cut", "all"])
def test_repair_restores_the_bytes_and_the_root_digest(version: Path, cache: Cache, what: str, capsys) -> None:
    before, root = digests(version), read_manifest(version).root_digest
    if what == "all":
        shutil.rmtree(version / "data")
    elif what == "cut":
        (version / SHARDS[1]).write_bytes((version / SHARDS[1]).read_bytes()[:1000])
    else:
        damage(version, what, SHARDS[:2], bit=123_456)
    assert digests(version) != before

    assert main([str(version), "--repair", "--cache-dir", str(cache.root)]) == 0
    assert digests(version) == before
    assert read_manifest(version).root_digest == root
    assert "wrote again: data/test-" in capsys.readouterr().err or what == "cut"
    assert [path.name for path in version.parent.iterdir()] == [version.name]


def test_repair_writes_only_what_is_damaged(version: Path, cache: Cache) -> None:
    (version / SHARDS[0]).unlink()
    kept = {name: (version / name).stat().st_ino for name in SHARDS[1:]}
    repair(version, repairable(read_manifest(version), verify(read_manifest(version))), cache)

    assert verify(read_manifest(version)) == []
    assert {name: (version / name).stat().st_ino for name in SHARDS[1:]} == kept


def test_shards_that_changed_names_are_mended_without_a_cache(version: Path, tmp_path: Path) -> None:
    before = digests(version)
    swap(version / SHARDS[0], version / SHARDS[1])
    repair(version, SHARDS[:2], Cache(tmp_path / "no-cache"))

    assert digests(version) == before


def test_a_shard_that_a_sibling_version_holds_is_mended_without_a_cache(version: Path, tmp_path: Path) -> None:
    shutil.copytree(version, version.with_name("0123456789ab"))
    before = digests(version)
    (version / SHARDS[1]).unlink()
    repair(version, SHARDS[1:2], Cache(tmp_path / "no-cache"))

    assert digests(version) == before


def test_without_the_prepared_clips_repair_names_a_clip_and_the_remedy(version: Path, tmp_path: Path) -> None:
    (version / SHARDS[1]).write_bytes(b"nothing")

    with pytest.raises(IntegrityError, match=r"train-00000-of-00001.*@\d+ is not in the cache .*build again"):
        repair(version, SHARDS[1:2], Cache(tmp_path / "no-cache"))
    assert (version / SHARDS[1]).read_bytes() == b"nothing"


def test_repair_puts_nothing_in_place_that_damaged_clip_rows_ask_for(version: Path, cache: Cache) -> None:
    path = next(p for p in sorted(version.glob("manifest/clips/*")) if b'"split":"train"' in p.read_bytes())
    path.write_bytes(path.read_bytes().replace(b'[1,null,"human"]', b'[0,null,"human"]').replace(b"1,0.", b"0,0."))
    path.unlink()
    (version / SHARDS[1]).unlink()

    with pytest.raises(IntegrityError, match=r"\.jsonl: missing"):
        repair(version, SHARDS[1:2], cache)
    assert not (version / SHARDS[1]).exists()


def test_a_shard_that_the_manifest_does_not_list_is_a_usage_error(version: Path, cache: Cache) -> None:
    with pytest.raises(UsageError, match="lists no shard data/other"):
        repair(version, ["data/other.parquet"], cache)
