"""Embed: what a clip sounds like, as one vector and one fingerprint; both lie in the cache.

The recipe names its embedder, and it is never replaced by what happens to be there: without the
weights the build says what to do. `none` leaves labels as given: nothing is embedded or curated.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutti.datasets import audio
from tutti.datasets.errors import CacheDamageError
from tutti.datasets.manifest import digest_of
from tutti.datasets.record import Clip
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.curation import fingerprint as fingerprints
from tutti.pipelines.curation.fingerprint import Fingerprint, fingerprint
from tutti.pipelines.embedders import Embedder
from tutti.pipelines.engine.code import arithmetic_digest

SCALE = 32_768  # of 16-bit PCM


@dataclass(frozen=True)
class EmbedConfig:
    """The embedder, and how it is run."""

    embedder: str = "none"  # "none", "logmel", "builtin" (trained), "ast", or an AST on the hub: "owner/name@revision"
    folder: str = field(default="", metadata={"local": True})  # an AST's weights on this machine
    resize_positions: bool = False  # AST: short clips on a position grid of their own length, about 4 times faster
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # AST: auto is bfloat16 on a GPU

    def with_embedder(self, name: str) -> "EmbedConfig":
        """Take the embedder that `--embedder` says: a name, or a folder with weights."""
        if Path(name).is_dir():
            return replace(self, embedder="ast", folder=str(Path(name).absolute()))
        return replace(self, embedder=name, folder="")


def embed(clip: Clip, *, config: EmbedConfig, cache: Cache) -> Clip:
    """Embed and fingerprint a clip; computed once for the same samples and embedder."""
    if config.embedder == "none":
        return clip
    if clip.audio is None:
        raise ValueError(f"{clip.id}: has no stored audio; run prepare first")
    pcm, blob = clip.audio.pcm_sha256, clip.audio.blob

    embedder = embedder_of(config)
    sizes = embedder.dimension * 4, fingerprints.num_bytes(clip.audio.num_samples)

    def vector() -> bytes:
        waveform = samples_of(blob, cache).astype(np.float32) / np.float32(SCALE)
        embedding = embedder.embed([waveform])[0].astype("<f4")
        if not np.isfinite(embedding).all():
            raise ValueError(f"{clip.id}: its embedding holds a number that is none; report it")
        return bytes(embedding.tobytes())

    def words() -> bytes:
        return fingerprint(samples_of(blob, cache)).data

    key = digest_of([pcm, embedder.digest, arithmetic_digest(type(embedder).__module__)])
    return replace(
        clip,
        embedding=_stored("embed", key, sizes[0], vector, cache),
        fingerprint=_stored("fingerprint", digest_of([pcm, fingerprints.CODE_VERSION]), sizes[1], words, cache),
    )


def _stored(stage: str, key: str, num_bytes: int, make: Callable[[], bytes], cache: Cache) -> str:
    known = cache.result(stage, key)
    if known is not None and cache.blob_bytes(known["blob"]) == num_bytes:
        return str(known["blob"])
    blob = cache.put_blob(make())
    cache.remember(stage, key, {"blob": blob})
    return blob


@functools.lru_cache(maxsize=1)
def embedder_of(config: EmbedConfig) -> Embedder:
    """Load the embedder of a configuration, one per process.

    Raises:
        UsageError: its weights cannot be had; the message says what to do.
    """
    if config.embedder == "logmel":
        from tutti.pipelines.embedders.logmel import LogMelEmbedder

        return LogMelEmbedder()
    if config.embedder == "builtin":
        from tutti.pipelines.embedders import builtin

        return builtin.load()
    from tutti.pipelines.embedders import ast, ast_files  # torch and transformers take seconds to import

    model = config.folder or (ast_files.DEFAULT_MODEL if config.embedder == "ast" else config.embedder)
    return ast.load(model, resize_positions=config.resize_positions, precision=config.precision)


def ensure_weights(config: EmbedConfig) -> None:
    """Fetch the embedder's weights, so that a build without them fails early.

    Raises:
        UsageError: they cannot be had; the message says what to do.
        IntegrityError: a file is damaged.
        TryLaterError: the hub fails.
    """
    if config.embedder != "none":
        embedder_of(config)


def samples_of(blob: str, cache: Cache) -> NDArray[np.int16]:
    """Decode the stored samples of a clip: mono int16."""
    decoded = audio.decode(cache.read_blob(blob), blob)
    return audio.to_int16(decoded.waveform[0])


def read_embedding(blob: str, cache: Cache) -> NDArray[np.float32]:
    """Read an embedding from the cache: (D,), finite.

    Raises:
        CacheDamageError: it is none; it is put aside, so that it can be made again.
    """
    content = cache.read_blob(blob)
    embedding = np.frombuffer(content, "<f4") if len(content) % 4 == 0 else np.full(1, np.nan, np.float32)
    if not np.isfinite(embedding).all():
        cache.put_aside(cache.blob_path(blob), label=f"blob {blob}", found="no embedding")
        raise CacheDamageError(f"cache: blob {blob} is no embedding; run the build again, it is made anew")
    return embedding


def read_fingerprint(blob: str, num_samples: int, cache: Cache) -> Fingerprint:
    """Read a fingerprint from the cache."""
    return Fingerprint(num_samples, cache.read_blob(blob))


def facts_of(config: EmbedConfig) -> dict[str, object]:
    """Describe the embedder for the manifest; no path of this machine."""
    if config.embedder == "none":
        return {"name": "none"}
    embedder = embedder_of(config)
    used = ("resize_positions", "precision") if config.embedder not in ("logmel", "builtin") else ()
    shown = {name: getattr(config, name) for name in used}
    return {
        "name": config.embedder,
        "digest": embedder.digest,
        "dimension": embedder.dimension,
        **shown,
        **embedder.facts,
    }
