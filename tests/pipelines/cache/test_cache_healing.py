"""Damage of a cache, however much, is healed by the next build itself: one run, the same root digest."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from rotting import DAMAGES, mutated, real_copy, rot_one_bit, to_endless, to_folder, to_nothing

from tutti.datasets.archive import open_archive
from tutti.datasets.decode_error import DecodeError
from tutti.datasets.errors import CacheDamageError
from tutti.datasets.files import write_file
from tutti.datasets.manifest import file_sha256, read_manifest
from tutti.datasets.record import Media
from tutti.pipelines.acquisition.origins import holds_its_sums
from tutti.pipelines.build.__main__ import main
from tutti.pipelines.build.plan import mirror_root
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages.prepare import read_media

MUTATIONS = int(os.environ.get("TUTTI_MUTATIONS", "0"))
EACH = len(DAMAGES)  # 8


class World:
    """A mirror, and the cache and root digest of an undisturbed build from it."""

    def __init__(self, folder: Path, mirror: Path, *flags: str) -> None:
        self.folder, self.mirror, self.flags, self.runs = folder, mirror, flags, 0
        self.cache = Cache(folder / "cache")
        self.digest = self.build(self.cache)

    def build(self, cache: Cache) -> str:
        """Root digest of one build into an empty output."""
        self.runs += 1
        output = self.folder / f"output{self.runs}"
        places = ["--mirror", str(self.mirror), "--output", str(output), "--cache-dir", str(cache.root)]
        assert main([*self.flags, *places]) == 0
        digest = read_manifest(output).root_digest
        shutil.rmtree(output)
        return digest

    def copy(self, name: str) -> Cache:
        """Its cache, to be damaged."""
        return Cache(real_copy(self.cache.root, self.folder / name))


@pytest.fixture(scope="module")
def irmas(tmp_path_factory, sample_mirror):
    """24 recordings of the sample, embedded."""
    flags = ("--dataset", "irmas", "--limit", "24", "--embedder", "logmel")
    return World(tmp_path_factory.mktemp("irmas"), sample_mirror, *flags)


def said(cache: Cache, stage: str) -> list[dict]:
    """What a stage remembers, without its digest."""
    paths = sorted((cache.root / "stages" / stage).rglob("*.json"))
    return [json.loads(path.read_bytes())["result"] for path in paths]


def prepared_audio(cache: Cache) -> list[Path]:
    """Blobs of prepared clips."""
    return [cache.blob_path(result["audio"]["blob"]) for result in said(cache, "prepare") if "audio" in result]


def vectors(cache: Cache, stage: str = "embed") -> list[Path]:
    """Blobs of embeddings, or fingerprints."""
    return [cache.blob_path(result["blob"]) for result in said(cache, stage)]


def damage_each(paths: list[Path]) -> int:
    """Every kind of damage once, as far as there are files; how many."""
    paths = list(dict.fromkeys(paths))[:EACH]
    for damage, path in zip(DAMAGES, paths, strict=False):
        damage(path)
    return len(paths)


@pytest.mark.parametrize("kind", ["audio", "embed", "fingerprint", "archives", "all of them"])
def test_eight_damaged_blobs_are_healed_by_one_build(irmas, tmp_path, kind, capsys):
    cache = irmas.copy(kind.replace(" ", "-"))
    damaged = 0
    if kind in ("audio", "all of them"):
        damaged += damage_each(prepared_audio(cache))
    for stage in ("embed", "fingerprint"):
        if kind in (stage, "all of them"):
            damaged += damage_each(vectors(cache, stage))
    if kind in ("archives", "all of them"):
        damaged += damage_each([cache.blob_path(result["sha256"]) for result in said(cache, "download")])
    capsys.readouterr()

    assert irmas.build(cache) == irmas.digest

    assert damaged == {"archives": 4, "all of them": 28}.get(kind, 8)
    assert capsys.readouterr().err.count("this build makes it again, with all others that are damaged") <= 1
    assert irmas.build(cache) == irmas.digest
    assert "damaged" not in capsys.readouterr().err


def test_results_that_rot_are_found_anew(irmas, tmp_path):
    """All at once, several times over: every result of the cache with a mutation of its own."""
    cache, rng, done = irmas.copy("results"), random.Random(0), 0
    sound = {path: path.read_bytes() for path in sorted((cache.root / "stages").rglob("*.json"))}
    while True:
        for path, content in sound.items():
            path.write_bytes(mutated(content, rng))
            done += 1
        assert irmas.build(cache) == irmas.digest
        if done >= MUTATIONS:
            break
    assert done >= 60


def test_whatever_lies_in_place_of_results_they_are_found_anew(irmas, tmp_path):
    cache = irmas.copy("places")
    for stage in ("prepare", "embed", "fingerprint", "download"):
        damage_each(sorted((cache.root / "stages" / stage).rglob("*.json")))

    assert irmas.build(cache) == irmas.digest


def test_an_embedding_that_is_none_is_made_again_though_its_digest_is_right(irmas, tmp_path):
    """What somebody else put into a shared cache: sealed, but of the wrong length, or not a number."""
    cache = irmas.copy("strange")
    paths = sorted((cache.root / "stages" / "embed").rglob("*.json"))
    size = cache.blob_path(said(cache, "embed")[0]["blob"]).stat().st_size
    for path, content in zip(paths, (b"", b"abc", b"\xff" * size, b"\xff" * (size - 4)), strict=False):
        cache.remember("embed", path.stem, {"blob": cache.put_blob(content)})

    assert irmas.build(cache) == irmas.digest


def test_a_damaged_member_of_a_cached_archive_is_no_verdict_on_the_clip(irmas, tmp_path):
    """The archive rots after it was checked: what is in the cache is to blame, not upstream."""
    cache = irmas.copy("member")
    for result in said(cache, "download"):
        cache.verified_blob(result["sha256"])
    archive = max(
        (cache.blob_path(result["sha256"]) for result in said(cache, "download")), key=lambda p: p.stat().st_size
    )
    member = next(name for name in open_archive(archive, "x.zip").names() if name.endswith(".wav"))
    with pytest.raises(DecodeError, match="has no member"):  # a sound archive without it: upstream's doing
        read_media(Media("https://h/x.zip", member="nothing.wav", sha256=archive.name), cache)
    content = bytearray(archive.read_bytes())
    for place in range(0, len(content) - 70_000, 499):  # every member, not the directory at the end
        content[place] ^= 1
    archive.write_bytes(content)

    with pytest.raises(CacheDamageError, match="was damaged or gone"):
        read_media(Media("https://h/x.zip", member=member, sha256=archive.name), cache)
    assert not archive.exists()
    assert irmas.build(cache) == irmas.digest


@pytest.mark.slow
def test_damage_of_every_kind_of_file_at_once_is_healed_by_one_build(tmp_path, sample_mirror, capsys):
    """Videos, a gzipped tar with the plain one that was made of it, label files, archives, audio, vectors, results."""
    flags = ("--dataset", "ultimate", "--embedder", "logmel", "--limit", "8")
    world = World(tmp_path, sample_mirror, *flags)
    cache = world.copy("damaged")
    upstream = {result["audio"]["source_sha256"] for result in said(cache, "prepare") if "audio" in result}
    videos = [cache.blob_path(sha256) for sha256 in sorted(upstream) if cache.has_blob(sha256)]
    (tar,) = (cache.root / "stages" / "gunzip").glob("*.tar")
    archives = [cache.blob_path(result["sha256"]) for result in said(cache, "download")]
    results = sorted((cache.root / "stages" / "prepare").rglob("*.json"))
    rot_one_bit(tar)
    counts = [
        damage_each(paths) for paths in (videos, archives, prepared_audio(cache), vectors(cache), results[-EACH:])
    ]
    capsys.readouterr()

    assert world.build(cache) == world.digest

    assert min(counts) >= 6
    assert capsys.readouterr().err.count("this build makes it again, with all others that are damaged") <= 1


@pytest.mark.parametrize("damage", [rot_one_bit, to_nothing, to_folder, to_endless])
@pytest.mark.parametrize("name", ["one.zip", "SHA256SUMS"])
def test_a_mirror_that_differs_from_its_checksums_is_told(tmp_path, name, damage):
    """So the built-in sample is made again where it rots, instead of ending every build."""
    write_file(tmp_path / "h" / "one.zip", b"0" * 1000)
    write_file(tmp_path / "SHA256SUMS", f"{file_sha256(tmp_path / 'h' / 'one.zip')}  h/one.zip\n".encode())
    assert holds_its_sums(tmp_path)

    damage(next(tmp_path.rglob(name)))

    assert not holds_its_sums(tmp_path)


def test_a_damaged_sample_is_made_again(tmp_path, sample_mirror, monkeypatch):
    def tiny(folder):
        shutil.copytree(sample_mirror, folder, dirs_exist_ok=True)

    monkeypatch.setattr("tutti.datasets.sample.write_sample_mirror", tiny)
    root = Path(str(mirror_root("sample", Cache(tmp_path))))
    rot_one_bit(next(root.rglob("*.zip")))
    assert not holds_its_sums(root)

    assert mirror_root("sample", Cache(tmp_path)) == str(root)
    assert holds_its_sums(root)
