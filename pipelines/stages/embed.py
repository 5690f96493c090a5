"""Embed: what a clip sounds like, as one vector and one fingerprint; both lie in the cache.

    recall (a clip's results of before) -> sounds that lack some -> batches -> embed_batch -> join with their clips

The recipe names its embedder, and it is never replaced by what happens to be there: without the weights the build says
what to do. `none` leaves labels as given: nothing is embedded or curated.

Batches hold references. Nothing depends on how they are made: a vector is remembered under its samples' digest, and is
the same bits in every slice (`embedders/slices.py`). What a batch cannot embed, `embed` tries alone, and rejects alone.
"""

import functools
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tutti.datasets import audio
from tutti.datasets.errors import CacheDamageError, TuttiError
from tutti.datasets.manifest import digest_of
from tutti.datasets.record import Clip, Rejected
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.curation import fingerprint as fingerprints
from tutti.pipelines.curation.fingerprint import Fingerprint, fingerprint
from tutti.pipelines.embedders import Embedder, embed_each
from tutti.pipelines.embedders.slices import Inputs
from tutti.pipelines.engine.ahead import ahead
from tutti.pipelines.engine.code import arithmetic_digest
from tutti.pipelines.engine.progress import reporter
from tutti.pipelines.rows import Embedded, Sound

SCALE = 32_768  # of 16-bit PCM
AHEAD_SAMPLES = 1 << 22  # decoded ahead of the model, at most: 262 s, 25 MB as int16 and float32; one clip always


@dataclass(frozen=True)
class EmbedConfig:
    """The embedder, and how it is run."""

    embedder: str = "none"  # "none", "logmel", "builtin" (trained), "ast", or an AST on the hub: "owner/name@revision"
    folder: str = field(default="", metadata={"local": True})  # an AST's weights on this machine
    resize_positions: bool = False  # AST: short clips on a position grid of their own length, about 4 times faster
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # AST: auto is bfloat16 on a GPU
    # Clips that a worker is given at once, rounded up to whole slices of the embedder. No result depends on it.
    batch: int = field(default=64, metadata={"local": True})

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"embed.batch must be at least 1, got {self.batch}")

    def with_embedder(self, name: str) -> "EmbedConfig":
        """Take the embedder that `--embedder` says: a name, or a folder with weights."""
        if Path(name).is_dir():
            return replace(self, embedder="ast", folder=str(Path(name).absolute()))
        return replace(self, embedder=name, folder="")


@dataclass(frozen=True)
class Measure:
    """A result that is made of a clip's samples in the same pass as its embedding."""

    stage: str  # of its results in the cache; the field of `Clip` and `Embedded` that holds their blob
    code_version: int
    num_bytes: Callable[[int], int]  # of a result, by the clip's number of samples
    make: Callable[[NDArray[np.int16]], bytes]


MEASURES = (
    Measure(
        "fingerprint", fingerprints.CODE_VERSION, fingerprints.num_bytes, lambda samples: fingerprint(samples).data
    ),
)


# --- one clip


def embed(clip: Clip, *, config: EmbedConfig, cache: Cache) -> Clip:
    """Embed and fingerprint a clip; computed once for the same samples and embedder."""
    if config.embedder == "none" or is_embedded(clip):
        return clip
    sound = sound_of(clip)
    blobs, inputs = _prepare(sound, config, cache)
    if inputs is not None:
        embedder = embedder_of(config)
        ((_, embedding),) = embed_each(embedder, [inputs])
        if not np.isfinite(embedding).all():
            raise ValueError(f"{clip.id}: its embedding holds a number that is none; report it")
        blobs["embed"] = _keep("embed", _embedding_key(sound, embedder), embedding.astype("<f4").tobytes(), cache)
    return _with_results(clip, blobs)


def recall(clip: Clip, *, config: EmbedConfig, cache: Cache) -> Clip:
    """Add to a clip the results that were computed before, if all of them are there."""
    sound = sound_of(clip)
    blobs = _recalled(sound, config, cache)
    return _with_results(clip, blobs) if len(blobs) == 1 + len(MEASURES) else clip


def sound_of(clip: Clip) -> Sound:
    """Name the samples of a clip."""
    if clip.audio is None:
        raise ValueError(f"{clip.id}: has no stored audio; run prepare first")
    return Sound(clip.audio.pcm_sha256, clip.audio.blob, clip.audio.num_samples)


def is_embedded(row: Any) -> bool:
    """Whether nothing is left to compute for a row: a clip, or a rejected one."""
    return isinstance(row, Rejected) or (row.embedding is not None and row.fingerprint is not None)


def lacks_embedding(row: Any) -> bool:
    """Whether a row is a clip that has to be embedded."""
    return not is_embedded(row)


def num_recalled(_: Clip, results: Sequence[Clip | Rejected]) -> int:
    """Count the clips that `recall` finishes."""
    return sum(map(is_embedded, results))


def num_left(row: Clip | Sequence[Sound], _: Sequence[object]) -> int:
    """Count the clips that `embed` finishes: those of batches are counted as they come."""
    return int(isinstance(row, Clip) and lacks_embedding(row))


def _with_results(clip: Clip, blobs: Mapping[str, str]) -> Clip:
    return replace(clip, embedding=blobs["embed"], fingerprint=blobs["fingerprint"])


def _embedding_key(sound: Sound, embedder: Embedder) -> str:
    return digest_of([sound.pcm_sha256, embedder.digest, arithmetic_digest(type(embedder).__module__)])


def _measure_key(sound: Sound, measure: Measure) -> str:
    return digest_of([sound.pcm_sha256, measure.code_version])


def _recalled(sound: Sound, config: EmbedConfig, cache: Cache) -> dict[str, str]:
    """Find results by stage; one of another length than it must have counts as absent."""
    embedder = embedder_of(config)
    wanted = [("embed", _embedding_key(sound, embedder), embedder.dimension * 4)]
    wanted += [(one.stage, _measure_key(sound, one), one.num_bytes(sound.num_samples)) for one in MEASURES]
    found = {}
    for stage, key, num_bytes in wanted:
        known = cache.result(stage, key)
        if known is not None and cache.blob_bytes(known["blob"]) == num_bytes:
            found[stage] = str(known["blob"])
    return found


def _prepare(sound: Sound, config: EmbedConfig, cache: Cache) -> tuple[dict[str, str], Inputs | None]:
    """Decode a clip once for whatever it lacks; what needs no model is made and kept.

    Returns:
        Its results by stage, and the inputs of the embedder's model, if the embedding is not among them.
    """
    blobs = _recalled(sound, config, cache)
    missing = [measure for measure in MEASURES if measure.stage not in blobs]
    if not missing and "embed" in blobs:
        return blobs, None
    samples = samples_of(sound.blob, cache)
    for measure in missing:
        blobs[measure.stage] = _keep(measure.stage, _measure_key(sound, measure), measure.make(samples), cache)
    if "embed" in blobs:
        return blobs, None
    return blobs, embedder_of(config).prepare(samples.astype(np.float32) / np.float32(SCALE))


def _keep(stage: str, key: str, content: bytes, cache: Cache) -> str:
    blob = cache.put_blob(content)
    cache.remember(stage, key, {"blob": blob})
    return blob


# --- batches


def batches_of(sounds: Sequence[Sound], *, config: EmbedConfig) -> Iterator[tuple[Sound, ...]]:
    """Make batches of all sounds that lack a result: each once, full slices, clips of one length together."""
    clips: dict[str, list[Sound]] = {}
    for sound in sounds:
        clips.setdefault(sound.pcm_sha256, []).append(sound)
    if not clips:
        return
    unique = [replace(min(same), num_clips=len(same)) for same in clips.values()]
    unique.sort(key=lambda sound: (sound.num_samples, sound.pcm_sha256))
    size = -(-config.batch // (whole := embedder_of(config).slice_size)) * whole
    for start in range(0, len(unique), size):
        yield tuple(unique[start : start + size])


def name_of_batch(batch: Sequence[Sound]) -> str:
    """Name a batch, to spread batches over workers."""
    return batch[0].pcm_sha256


def embed_batch(batch: Sequence[Sound], *, config: EmbedConfig, cache: Cache, progress: Path) -> Iterator[Embedded]:
    """Embed sounds, each remembered as it comes; decoded ahead in threads while the model runs.

    Sounds that cannot be embedded are left out, whatever the reason: `embed` meets it again, for their clips alone.

    Raises:
        TuttiError: the build cannot go on.
    """
    embedder, tally = embedder_of(config), reporter(progress)
    at_work: list[tuple[Sound, dict[str, str]]] = []  # by their places among the inputs
    finished: list[Embedded] = []  # that lacked no embedding

    def finish(sound: Sound, blobs: Mapping[str, str]) -> Embedded:
        tally.add("embed", sound.num_clips)
        return Embedded(sound.pcm_sha256, blobs["embed"], blobs["fingerprint"], sound.num_clips)

    def inputs() -> Iterator[Inputs]:
        prepare = functools.partial(_prepare, config=config, cache=cache)
        for sound, future in ahead(batch, prepare, lambda sound: sound.num_samples, AHEAD_SAMPLES):
            try:
                blobs, given = future.result()
            except TuttiError:
                raise
            except Exception:
                continue
            if given is None:
                finished.append(finish(sound, blobs))
            else:
                at_work.append((sound, blobs))
                yield given

    source, is_done = inputs(), False
    while not is_done:
        at_work.clear()
        try:
            for place, embedding in embed_each(embedder, source):
                sound, blobs = at_work[place]
                if np.isfinite(embedding).all():
                    content = embedding.astype("<f4").tobytes()
                    blobs["embed"] = _keep("embed", _embedding_key(sound, embedder), content, cache)
                    yield finish(sound, blobs)
            is_done = True
        except TuttiError:
            raise
        except Exception:  # those at work are embedded alone; the next ones may fare better
            gc.collect()
    yield from finished


def same_sound(_: str, rows: Sequence[Clip], results: Sequence[Embedded]) -> list[Clip]:
    """Join clips with the results of their samples; a clip without any stays as it is."""
    found = {result.pcm_sha256: result for result in results}
    return [
        row if (result := found.get(sound_of(row).pcm_sha256)) is None
        else replace(row, embedding=result.embedding, fingerprint=result.fingerprint)
        for row in rows
    ]  # fmt: skip


def digits_of(pcm_sha256: str) -> str:
    """Choose the group in which clips meet the results of their samples: one of 256."""
    return pcm_sha256[:2]


def pcm_of(row: Clip | Embedded) -> str:
    """Name the samples of a clip or a result."""
    return row.pcm_sha256 if isinstance(row, Embedded) else sound_of(row).pcm_sha256


# --- embedders


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
