"""manifest.json by its keys, so that a type checker knows them; `manifest_schema.json` is the contract."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypeAlias, TypedDict

RecipeJson: TypeAlias = Mapping[str, Any]  # a recipe, stage by stage; `pipelines.recipe` reads it


class SourceFileEntry(TypedDict):
    """A remote file that a source read."""

    name: str
    url: str
    sha256: str
    num_bytes: int
    verified_by: str
    resolved_url: NotRequired[str]


class InputEntry(TypedDict):
    """A file, or many, that a source read on the builder's machine beside the audio."""

    kind: str
    name: str
    sha256: str
    num_bytes: int
    num_files: NotRequired[int]


class SourceEntry(TypedDict):
    """A corpus."""

    title: str
    homepage: str
    license: str
    license_url: str
    citation: str
    files: list[SourceFileEntry]
    inputs: NotRequired[list[InputEntry]]


class SourceCounts(TypedDict):
    """Clips of one source."""

    kept: int
    rejected: NotRequired[int]
    gone: NotRequired[int]
    pending: NotRequired[int]
    reasons: dict[str, int]
    splits: dict[str, int]


class CountsEntry(TypedDict):
    """Clips by status, reason, split, source; present labels by split and instrument."""

    kept: int
    rejected: dict[str, int]  # by reason
    splits: dict[str, int]
    sources: dict[str, SourceCounts]
    present: dict[str, dict[str, int]]


class ShardEntry(TypedDict):
    """A shard; see `datasets.shard_info.ShardInfo`."""

    path: str
    split: str
    num_rows: int
    num_bytes: int
    sha256: str
    content_sha256: str


class BucketEntry(TypedDict):
    """A file of clip rows."""

    path: str
    num_rows: int
    sha256: str


class FileEntry(TypedDict):
    """Another file of the version."""

    path: str
    num_bytes: int
    sha256: str


class ParentEntry(TypedDict):
    """The version before."""

    root_digest: str
    version: str
    release: str


class ManifestContent(TypedDict):
    """All of manifest.json; see manifests/README.md."""

    schema_version: int
    dataset: str
    instruments: list[str]
    recipe: RecipeJson
    recipe_sha256: str
    mirrored: bool
    sources: dict[str, SourceEntry]
    tools: dict[str, str]
    counts: CountsEntry
    split_certificate: dict[str, Any]
    curation: NotRequired[dict[str, Any]]
    split_digest: str
    root_digest: str
    shards: list[ShardEntry]
    clips: list[BucketEntry]
    files: NotRequired[list[FileEntry]]
    incomplete: NotRequired[dict[str, int]]  # clips or inputs by reason
    release: NotRequired[str]
    parent: NotRequired[ParentEntry | None]
