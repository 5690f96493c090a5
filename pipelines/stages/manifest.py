"""Count and describe what was written; `manifest.json` comes last, the proof that the version is complete."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import soundfile

from tutti.datasets.files import write_file
from tutti.datasets.machine import MACHINE_REASONS
from tutti.datasets.manifest import (
    SCHEMA_VERSION,
    ClipRow,
    canonical_json,
    count_rows,
    digest_of,
    manifest_path,
    read_clip_rows,
    read_manifest,
    root_digest,
    split_digest,
)
from tutti.datasets.manifest_types import FileEntry, InputEntry, ManifestContent, SourceEntry, SourceFileEntry
from tutti.datasets.shard_info import ShardInfo
from tutti.datasets.source import LocalFile, has_notes, load_source
from tutti.pipelines.export.card import count_kept, dataset_card
from tutti.pipelines.export.formats import croissant, huggingface
from tutti.pipelines.lineage import lineage
from tutti.pipelines.render import synthesizer
from tutti.pipelines.rows import BucketInfo, Certificate, SourceFiles

Part: TypeAlias = SourceFiles | ShardInfo | BucketInfo | Certificate

TOOLS = ("numpy", "soxr", "pyloudnorm", "soundfile", "av", "pyarrow", "apache-beam", "scipy")


@dataclass(frozen=True)
class Provenance:
    """Origin of a dataset: recipe, classes, and the version before."""

    dataset: str  # name of the recipe
    recipe: Mapping[str, Any]  # as JSON
    instruments: tuple[str, ...]
    mirrored: bool  # a mirror stood in for upstream
    version: Path | None = None  # folder of the one before


def write_manifest(parts: Sequence[Part], *, provenance: Provenance, staging: Path) -> str:
    """Write README.md, croissant.json, and then manifest.json.

    Args:
        parts: all SourceFiles, ShardInfos, BucketInfos, and one Certificate.
        provenance: of the dataset.
        staging: folder that becomes the version.

    Returns:
        The root digest.
    """
    shards = sorted((p for p in parts if isinstance(p, ShardInfo)), key=lambda shard: shard.path)
    buckets = sorted((p for p in parts if isinstance(p, BucketInfo)), key=lambda bucket: bucket.path)
    sources = sorted((p for p in parts if isinstance(p, SourceFiles)), key=lambda source: source.source)
    certificate = next(p for p in parts if isinstance(p, Certificate))

    def rows() -> Iterator[ClipRow]:
        return (row for bucket in buckets for row in read_clip_rows(staging / bucket.path))

    described = {
        **_described(rows, provenance),
        "sources": {source.source: _source_entry(source) for source in sources},
        "split_certificate": certificate.split,
        **({} if certificate.curation is None else {"curation": certificate.curation}),
        "shards": [asdict(shard) for shard in shards],
        "clips": [asdict(bucket) for bucket in buckets],
    }
    content = cast(ManifestContent, described)
    counts = count_kept(rows())
    texts = {
        "README.md": dataset_card(content, counts, shards, usage=huggingface.USAGE),
        "croissant.json": croissant.croissant_json(content, counts, shards),
    }
    content["files"] = [_write_text(staging, path, text) for path, text in texts.items()]
    parent = None if provenance.version is None else read_manifest(provenance.version)
    read_back = json.loads(canonical_json(content))  # a tuple is a list
    whole = {**content, **lineage(read_back, parent)}
    write_file(manifest_path(staging), (canonical_json(whole) + "\n").encode(), durable=False)
    return content["root_digest"]


def _described(rows: Callable[[], Iterator[ClipRow]], provenance: Provenance) -> dict[str, Any]:
    """Describe a dataset: how it came about, and what its rows count and prove."""
    decoders: set[str] = set()
    counts = count_rows(_noting(rows(), decoders), provenance.instruments)
    lost = counts["rejected"]
    incomplete = {reason: lost[reason] for reason in MACHINE_REASONS if reason in lost}
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": provenance.dataset,
        "instruments": list(provenance.instruments),
        "recipe": provenance.recipe,
        "recipe_sha256": digest_of(provenance.recipe),
        "mirrored": provenance.mirrored,
        "tools": tool_versions(provenance.recipe, decoders),
        "counts": counts,
        "split_digest": split_digest(rows()),
        "root_digest": root_digest(rows()),
        **({"incomplete": incomplete} if incomplete else {}),
    }


def _write_text(staging: Path, path: str, text: str) -> FileEntry:
    data = text.encode()
    write_file(staging / path, data, durable=False)
    return {"path": path, "num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _source_entry(source: SourceFiles) -> SourceEntry:
    card = load_source(source.source).CARD
    entry: SourceEntry = {
        "title": card.title,
        "homepage": card.homepage,
        "license": card.license,
        "license_url": card.license_url,
        "citation": card.citation,
        "files": [_file_entry(file) for file in source.files],
    }
    if source.inputs:
        said = ({name: value for name, value in asdict(one).items() if value is not None} for one in source.inputs)
        entry["inputs"] = [cast(InputEntry, one) for one in said]
    return entry


def _file_entry(file: LocalFile) -> SourceFileEntry:
    entry: SourceFileEntry = {
        "name": file.remote.name,
        "url": file.remote.url,
        "sha256": file.sha256,
        "num_bytes": file.size_bytes,
        "verified_by": file.verified_by,
    }
    if file.resolved_url:
        entry["resolved_url"] = file.resolved_url
    return entry


def tool_versions(recipe: Mapping[str, Any], decoders: Iterable[str]) -> dict[str, str]:
    """Collect versions of what shapes the output: always, and where its sources, rows and splitter need more.

    Args:
        recipe: as JSON.
        decoders: those that read a clip.
    """
    names, versions = list(TOOLS), {"libsndfile": soundfile.__libsndfile_version__}
    sources = recipe.get("sources", {})
    if has_notes(sources):
        names.append("mido")
    if recipe.get("split", {}).get("splitter") == "skmultilearn":
        names.append("scikit-multilearn")
    if "rendered" in sources:
        versions["fluidsynth"] = synthesizer.version()
    if "pyav" in decoders:
        versions["ffmpeg"] = _ffmpeg_version()
    return versions | {name: importlib.metadata.version(name) for name in names}


def _ffmpeg_version() -> str:
    import av  # a tenth of a second, which only decoders and this need to spend

    return str(av.ffmpeg_version_info)


def _noting(rows: Iterable[ClipRow], decoders: set[str]) -> Iterator[ClipRow]:
    """Pass rows on; the names of their decoders are entered."""
    for row in rows:
        if "audio" in row:
            decoders.add(row["audio"]["decoder"])
        yield row
