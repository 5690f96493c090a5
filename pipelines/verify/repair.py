"""Write damaged shards of a version again, byte for byte, without a build.

    repair(version, ["data/test-00000-of-00001.parquet"], cache)

Bytes that lie elsewhere are taken from there: under another name in this version (a swap), or under
the same one in a sibling version. Otherwise the shard is written again from the clip rows and the
prepared clips in the cache. Nothing is put in place that is not what the manifest says.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.files import sweep, sync_folder, temporary_folder
from tutti.datasets.manifest import ClipRow, Manifest, file_sha256, is_within, read_manifest
from tutti.datasets.record import SPLITS, Clip, Label, StoredAudio
from tutti.datasets.shard import audio_extension
from tutti.datasets.shard_info import ShardInfo
from tutti.pipelines.cache.contents import read_or_empty, results
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.rows import ShardJob
from tutti.pipelines.stages.write import ShardSchema, WriteConfig, write_shard_file
from tutti.pipelines.verify.findings import VERSION_NAME

_PREPARED = re.compile(rb'"pcm_sha256":"([0-9a-f]{64})"')  # in a result of prepare


def repair(version: Path, shards: Sequence[str], cache: Cache) -> None:
    """Write shards of a version again; each appears at once, all of them after the last is whole.

    Args:
        version: of the dataset.
        shards: their paths in it, as the manifest lists them.
        cache: of the build, with its prepared clips.

    Raises:
        UsageError: the manifest lists no such shard.
        IntegrityError: a clip row or a prepared clip is missing, or the result is not what the manifest says.
    """
    manifest = read_manifest(version)
    infos = {info.path: info for info in manifest.shards()}
    if unknown := sorted(set(shards) - set(infos)):
        raise UsageError(f"{version}: the manifest lists no shard {', '.join(unknown)}")
    wanted = [infos[path] for path in dict.fromkeys(shards)]
    sweep(manifest.folder)  # what a killed repair left
    with temporary_folder(manifest.folder) as folder, cache.in_use():
        lost = [info for info in wanted if not _found_elsewhere(manifest, info, folder)]
        if lost:
            _write_again(manifest, lost, cache, folder)
        sync_folder(folder)
        for info in wanted:
            target = manifest.path(info.path)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                (folder / info.path).replace(target)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise IntegrityError(f"{target}: something else has its place; move that away, then repair") from error


def _found_elsewhere(manifest: Manifest, info: ShardInfo, folder: Path) -> bool:
    """Copy the shard's bytes from where they also lie, if they do."""
    version = manifest.folder
    beside = sorted(version.glob("data/*")) if is_within(version, "data") else []
    if version.parent.name == "versions":
        siblings = sorted(folder for folder in version.parent.iterdir() if VERSION_NAME.fullmatch(folder.name))
        beside += [sibling / info.path for sibling in siblings if is_within(version.parent, sibling.name)]
    for path in beside:
        inside = is_within(path.parents[1], f"data/{path.name}")
        if inside and path.is_file() and path.stat().st_size == info.num_bytes and file_sha256(path) == info.sha256:
            target = folder / info.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            return True
    return False


def _write_again(manifest: Manifest, infos: Iterable[ShardInfo], cache: Cache, folder: Path) -> None:
    recipe = manifest.content["recipe"]
    rows = {info.path: members for info, members in members_of_shards(manifest)}
    needed = {row["audio"]["pcm_sha256"] for info in infos for row in rows[info.path]}
    blobs = prepared_blobs(cache, needed, recipe["prepare"]["audio_format"])
    shape = WriteConfig(recipe["write"]["rows_per_shard"], recipe["write"]["rows_per_group"])
    schema = ShardSchema(tuple(manifest.instruments), recipe["prepare"]["sample_rate"], shape)
    for info in infos:
        members = rows[info.path]
        missing = [row["id"] for row in members if row["audio"]["pcm_sha256"] not in blobs]
        if len(members) != info.num_rows or missing:
            what = f"{missing[0]} is not in the cache {cache.root}" if missing else "clip rows are missing"
            raise IntegrityError(
                f"{info.path}: cannot be written again: {what}; build again with the same recipe into an empty --output"
            )
        clips = tuple(_clip(row, blobs[row["audio"]["pcm_sha256"]]) for row in members)
        try:
            written = write_shard_file(ShardJob(info.path, clips), schema=schema, staging=folder, cache=cache)
        except ValueError as error:  # clips of another rate, or one twice
            raise IntegrityError(f"{info.path}: its clip rows make no shard ({error}); check them first") from error
        # Another version of a library may give other bytes for the same content: verify will call it drift.
        if written.content_sha256 != info.content_sha256:
            raise IntegrityError(
                f"{info.path}: written again, its rows are not the manifest's; check the clip rows first"
            )


def members_of_shards(manifest: Manifest) -> Iterator[tuple[ShardInfo, list[ClipRow]]]:
    """Yield every shard with its clip rows: ranked by id within the split, cut as the manifest says."""
    by_split: dict[str, list[ClipRow]] = {split: [] for split in SPLITS}
    for row in manifest.clip_rows():
        if row["status"] == "kept":
            by_split[row["split"]].append(row)
    for split, rows in by_split.items():
        rows.sort(key=lambda row: str(row["id"]))
        start = 0
        for info in sorted(manifest.shards(split), key=lambda info: info.path):
            yield info, rows[start : start + info.num_rows]
            start += info.num_rows


def prepared_blobs(cache: Cache, pcm: set[str], audio_format: str) -> Mapping[str, str]:
    """Find the blobs of prepared clips by PCM digest, for those of `pcm` that the cache has, whole, in this format."""
    found: dict[str, str] = {}
    for entry in results(cache):
        content = read_or_empty(entry.path)
        if not any(digest.decode() in pcm for digest in _PREPARED.findall(content)):
            continue
        result = cache.result("prepare", entry.stem)
        if result is None or "audio" not in result:
            continue  # damaged, or of another stage
        digest, blob = result["audio"]["pcm_sha256"], result["audio"]["blob"]
        path = cache.verified_blob(blob)
        if path is not None and audio_extension(path.read_bytes()[:4]) == audio_format:
            found[digest] = min(blob, found.get(digest, blob))  # the same whatever the order of files
    return found


def _clip(row: ClipRow, blob: str) -> Clip:
    """Make a kept clip of its row; what no shard holds is left at nothing."""
    stored = StoredAudio(**row["audio"], blob=blob, native_num_samples=0, num_channels=1, complete=True)
    return Clip(
        id=row["id"],
        source=row["source"],
        recording=row["recording"],
        group=row["group"],
        partition=row["partition"],
        labels={name: Label(presence, origin, sure) for name, (presence, sure, origin) in row["labels"].items()},
        license=row["license"],
        start_s=row["start_s"],
        end_s=row.get("end_s"),
        audio=stored,
        quality=row.get("quality"),
        split=row["split"],
    )
