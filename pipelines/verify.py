"""Check a built dataset against its manifest: every shard, every clip row, the root digest.

    python -m pipelines.verify build/ultimate

Says exactly what is wrong: corrupt, missing or stray, and where. Exit code 0 or 3.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from datasets.errors import IntegrityError, TuttiError, UsageError
from datasets.manifest import ClipRow, Manifest, file_sha256, read_clip_rows, read_manifest, root_digest
from datasets.shard import ShardInfo, content_digest


def verify(manifest: Manifest, level: str = "shards") -> Iterator[str]:
    """Problems of a dataset version, one line each; none if it is whole.

    Args:
        manifest: of the version.
        level: "clips": clip rows and their root digest; "shards": the shards too.
    """
    yield from _verify_clip_rows(manifest)
    if level == "shards":
        for shard in manifest.shards():
            yield from _verify_shard(manifest.folder, shard)
    listed = {shard.path for shard in manifest.shards()} | {bucket["path"] for bucket in manifest.content["clips"]}
    for found in (*manifest.folder.glob("data/*"), *manifest.folder.glob("manifest/clips/*")):
        path_in_version = found.relative_to(manifest.folder).as_posix()
        if path_in_version not in listed:
            yield f"{path_in_version}: stray: the manifest does not list it"


def _verify_clip_rows(manifest: Manifest) -> Iterator[str]:
    folder = manifest.folder
    rows: list[ClipRow] = []
    for bucket in manifest.content["clips"]:
        path = folder / bucket["path"]
        if not path.is_file():
            yield f"{bucket['path']}: missing"
            continue
        if file_sha256(path) != bucket["sha256"]:
            yield f"{bucket['path']}: corrupt: its sha256 is not the manifest's"
        try:
            rows += read_clip_rows(path)
        except IntegrityError as error:
            yield str(error)
    if root_digest(rows) != manifest.root_digest:
        yield "manifest/clips: their root digest is not the manifest's"


def _verify_shard(folder: Path, shard: ShardInfo) -> Iterator[str]:
    path = folder / shard.path
    if not path.is_file():
        yield f"{shard.path}: missing"
    elif file_sha256(path) != shard.sha256:
        try:
            same = content_digest(path) == shard.content_sha256
        except (IntegrityError, pa.ArrowException, OSError, KeyError) as error:
            yield f"{shard.path}: corrupt: {error}"
            return
        # Another Parquet writer gives other bytes for the same rows: worth knowing, no damage.
        yield (
            f"{shard.path}: container drift: other bytes, same content"
            if same
            else f"{shard.path}: corrupt: other rows"
        )


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.verify", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="output root (build/NAME) or version folder")
    parser.add_argument("--level", choices=("sources", "clips", "shards"), default="shards", help="how deep to look")
    arguments = parser.parse_args(argv)
    if arguments.level == "sources":
        print("error: --level sources: checking upstream files is not built yet", file=sys.stderr)
        return UsageError.exit_code
    try:
        manifest = read_manifest(arguments.folder)
    except TuttiError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    problems = list(verify(manifest, arguments.level))
    for problem in problems:
        print(problem)
    if problems:
        return IntegrityError.exit_code
    counts = manifest.content["counts"]
    print(
        f"{manifest.content['dataset']} {manifest.version}: {counts['kept']} clips, {len(manifest.shards())} shards, ok"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
