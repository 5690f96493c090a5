"""README.md of a dataset: a Hugging Face card, and the same text without its front matter for other formats.

The front matter is written as the subset of YAML that JSON strings and block lists make up.
https://huggingface.co/docs/hub/datasets-cards
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tutti.datasets.manifest import ClipRow
from tutti.datasets.manifest_types import ManifestContent, SourceEntry
from tutti.datasets.record import SPLITS
from tutti.datasets.shard import schema
from tutti.datasets.shard_info import ShardInfo
from tutti.datasets.shard_tracks import TRACK_NAMES
from tutti.datasets.source import has_notes, has_tracks
from tutti.pipelines.export.markdown import inline, line, link

COLUMNS = {
    "id": "source/upstream-key@start_ms, stable for ever",
    "audio": "complete audio file: mono, 16 bit",
    "sample_rate": "of the audio, in Hz",
    "num_samples": "of the audio",
    "source": "corpus",
    "recording": "upstream key: path in the archive, or video id",
    "group": "song, artist or video: what no two splits share",
    "start_s": "begin of the clip, in seconds of the recording",
    "end_s": "end of the clip, in seconds of the recording; null: the recording's end",
    "presence": "per class: 1 = present, 0 = absent, -1 = unknown",
    "confidence": "per class: belief that it is present, in [0, 1], or null",
    "label_origin": "per class: human, crowd, weak, score, or pseudo:<digest of inputs>; null where unknown",
    "quality": "how likely the most doubtful label is right, in [0, 1]; null: not judged",
    "loudness_lufs": "of the audio, ITU-R BS.1770; null: not measurable",
    "gain_db": "applied to the recording, in dB",
    "license": "of this clip: SPDX identifier, LicenseRef-... or URL",
    "audio_sha256": "of the samples: int16, little-endian",
}

EXTRA_COLUMNS = {
    "notes": "what sounds by the score, in seconds of the clip: onset_s, offset_s, pitch (MIDI, 69 = A4), program (of "
    "General MIDI, 0-based; 128 = percussion), instrument (null: no class), velocity; null where no score is known",
    "track": "place in a song of several tracks: song, stem (null: the mix), instrument in the corpus's words, family, "
    "artist, artist_group (one for all spellings), album, bleed (others are heard too); null: no such song",
    "sounding": "when each stem sounds: stem, spans (start_s, end_s in seconds of the clip), present and unknown "
    "(classes; all others are absent while only this stem sounds); null: no such song",
}

# Identifiers that the hub's card knows; every other licence is "other" there.
# https://huggingface.co/docs/hub/repositories-licenses
_HUB_LICENSES = {
    "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "mit", "apache-2.0", "odbl", "pddl", "unknown",
}  # fmt: skip
# What YAML has only as an escape, or breaks a line at: https://yaml.org/spec/1.2.2/#51-character-set
_NOT_IN_YAML = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_CC_URL = re.compile(r"https?://creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)/(\d\.\d)/?")

# https://huggingface.co/docs/hub/datasets-cards: size_categories
_SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
)  # fmt: skip


@dataclass(frozen=True)
class Counts:
    """Clips of a dataset, or of the part of it that is passed on."""

    splits: Mapping[str, int]
    licenses: Mapping[str, int]
    sources: Mapping[str, int]
    left_out: Mapping[str, int]  # by licence; empty: nothing was left out


def count_kept(rows: Iterable[ClipRow]) -> Counts:
    """Count the kept clips of a manifest."""
    splits, licenses, sources = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        if row["status"] == "kept":
            splits[row["split"]] += 1
            licenses[row["license"]] += 1
            sources[row["source"]] += 1
    by_split = {split: splits[split] for split in SPLITS}
    return Counts(by_split, dict(sorted(licenses.items())), dict(sorted(sources.items())), {})


def dataset_card(content: ManifestContent, counts: Counts, shards: Sequence[ShardInfo], *, usage: str) -> str:
    """Write a card that `load_dataset(folder)` follows, where the shards lie below `data/`.

    Args:
        content: manifest.json of the version.
        counts: of the clips in the shards.
        shards: in the folder of the card.
        usage: Python that reads the folder.
    """
    return f"---\n{front_matter(content, counts, shards)}---\n\n{readme(content, counts, usage=usage)}"


def front_matter(content: ManifestContent, counts: Counts, shards: Sequence[ShardInfo]) -> str:
    """Write what the hub and `load_dataset` read: licences, task, size, files per split, features."""
    splits = [split for split in counts.splits if counts.splits[split]]  # without rows it cannot be loaded there
    num_bytes = {split: sum(shard.num_bytes for shard in shards if shard.split == split) for split in splits}
    licenses = sorted({hub_license(name) for name in counts.licenses})
    lines = [
        f"pretty_name: {yaml_string(content['dataset'])}",
        "license:",
        *(f"- {name}" for name in licenses),
        *(["license_name: per-clip"] if "other" in licenses else []),  # the card's table and the column `license`
        "task_categories:",
        "- audio-classification",
        "tags:",
        "- music",
        "- instrument-recognition",
        "size_categories:",
        f"- {size_category(sum(counts.splits.values()))}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(line for split in splits for line in (f"  - split: {split}", f"    path: data/{split}-*.parquet")),
        "dataset_info:",
        "  config_name: default",
        "  features:",
        *_features(
            schema(
                content["instruments"],
                _sample_rate(content),
                notes=has_notes(content["sources"]),
                tracks=has_tracks(content["sources"]),
            ),
            _sample_rate(content),
        ),
        "  splits:",
    ]
    for split in splits:
        lines += [
            f"  - name: {split}",
            f"    num_bytes: {num_bytes[split]}",
            f"    num_examples: {counts.splits[split]}",
        ]
    total = sum(num_bytes.values())
    lines += [f"  download_size: {total}", f"  dataset_size: {total}"]
    return "".join(f"{line}\n" for line in lines)


def yaml_string(text: str) -> str:
    """Quote a string for YAML: a JSON string whose escapes both languages read alike."""
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _sample_rate(content: ManifestContent) -> int:
    return int(content["recipe"]["prepare"]["sample_rate"])


def _features(table_schema: pa.Schema, sample_rate: int) -> list[str]:
    lines = []
    for field in table_schema:
        lines.append(f"  - name: {field.name}")
        if field.name in EXTRA_COLUMNS:
            lines += _nested(field.type, "    ")
        elif pa.types.is_struct(field.type):
            lines += ["    dtype:", "      audio:", f"        sampling_rate: {sample_rate}"]
        elif pa.types.is_fixed_size_list(field.type):
            lines += [f"    list: {_dtype(field.type.value_type)}", f"    length: {field.type.list_size}"]
        else:
            lines.append(f"    dtype: {_dtype(field.type)}")
    return lines


def _nested(kind: pa.DataType, indent: str) -> list[str]:
    """List lines of a value of parts, in the hub's YAML."""
    if pa.types.is_list(kind):
        if not pa.types.is_struct(kind.value_type):
            return [f"{indent}list: {_dtype(kind.value_type)}"]
        return [f"{indent}list:", *_parts(kind.value_type, indent)]
    if pa.types.is_struct(kind):
        return [f"{indent}struct:", *_parts(kind, indent)]
    return [f"{indent}dtype: {_dtype(kind)}"]


def _parts(struct: pa.StructType, indent: str) -> list[str]:
    return [line for part in struct for line in (f"{indent}- name: {part.name}", *_nested(part.type, f"{indent}  "))]


def _dtype(kind: pa.DataType) -> str:
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))


def hub_license(license_id: str) -> str:
    """Convert an SPDX identifier or Creative Commons URL to the hub's identifier; "other" if it has none."""
    url = _CC_URL.fullmatch(license_id)
    if url:
        kind, version = url.groups()
        license_id = f"cc0-{version}" if kind == "zero" else f"cc-{kind}-{version}"
    return license_id.lower() if license_id.lower() in _HUB_LICENSES else "other"


def size_category(num_clips: int) -> str:
    """Choose the hub's name for a number of rows."""
    return next((name for limit, name in _SIZES if num_clips < limit), "n>10M")


def readme(content: ManifestContent, counts: Counts, *, usage: str) -> str:
    """Write what a person reads: what it is, how to load it, whose it is."""
    first = next((split for split in counts.splits if counts.splits[split]), SPLITS[0])
    sample_rate, num_classes = _sample_rate(content), len(content["instruments"])
    parts = [
        f"# {inline(content['dataset'])}",
        f"Clips of music with labels of {num_classes} instruments, mono at {sample_rate:,} Hz, built with tutti. "
        f"Root digest of the version: `{content['root_digest']}`.",
        f"Classes, in the order of the label columns: {', '.join(map(inline, content['instruments']))}. "
        "In `presence`, 1 = present, 0 = absent, -1 = unknown: nobody said.",
        table(("split", "clips"), counts.splits.items()),
    ]
    if usage:
        parts.append(f"```python\n{usage.replace('SPLIT', first)}```")
    parts += [
        "## Licences",
        "Each clip keeps its own licence, in the column `license`; the audio belongs to its makers.",
        table(("licence", "clips"), counts.licenses.items()),
    ]
    if counts.left_out:
        parts += [
            f"{sum(counts.left_out.values()):,} clips of the version under other licences were left out:",
            table(("licence left out", "clips"), counts.left_out.items()),
        ]
    parts += ["## Sources", source_table(content["sources"], counts.sources)]
    cited = [entry["citation"] for name, entry in content["sources"].items() if name in counts.sources]
    parts += ["## Citation", "\n".join(f"- {line(citation)}" for citation in cited)]
    parts += label_quality(content)
    extras = ["notes"] * has_notes(content["sources"]) + [*TRACK_NAMES] * has_tracks(content["sources"])
    columns = COLUMNS | {name: EXTRA_COLUMNS[name] for name in extras}
    parts += [
        "## Columns",
        table(("column", "meaning"), ((_Markdown(name), _Markdown(meaning)) for name, meaning in columns.items())),
    ]
    return "\n\n".join(parts) + "\n"


def label_quality(content: ManifestContent) -> list[str]:
    """Write what judged the labels, and how many clips went; nothing where no label was judged."""
    curation = content.get("curation", {})
    try:  # a manifest of somebody else may hold anything there
        judged = [entry for entry in curation["outliers"].values() if "score" in entry]
        methods = "; ".join(sorted({f"{entry['score']}, mode {entry['mode']}" for entry in judged}))
        counts = [count for entry in judged for count in entry["sources"].values()]
        went, scored = (sum(count[key] for count in counts) for key in ("doubted", "judged"))
        version, embedder = (str(curation[room][key]) for room, key in (("tools", "cleanlab"), ("embedder", "name")))
    except (AttributeError, KeyError, TypeError):
        return []
    if not judged:
        return []
    return [
        "## Label quality",
        "`quality` is the probability that a clip's most doubtful label is right, scored by cleanlab "
        f"{inline(version)} ({inline(methods)}) on out-of-fold probabilities of logistic regressions on embeddings "
        f"({inline(embedder)}). Of {scored:,} clips that were judged, {went:,} were left out as label outliers.",
    ]


def source_table(sources: Mapping[str, SourceEntry], counts: Mapping[str, int]) -> str:
    """Write a table of the corpora that clips come from."""
    rows = []
    for name, entry in sources.items():
        if name in counts:
            title = _Markdown(link(entry["title"], entry["homepage"]))
            license_id = _Markdown(link(entry["license"], entry["license_url"]))
            rows.append((title, license_id, counts[name]))
    return table(("source", "licence of the corpus", "clips"), rows)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a Markdown table; numbers with separators, texts escaped."""
    lines = [header, [_Markdown("---")] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in cells) + " |" for cells in lines)


class _Markdown(str):
    """Text that is Markdown already."""


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    text = value if isinstance(value, _Markdown) else inline(str(value))
    return text.replace("|", "\\|")
