"""Croissant: Parquet shards and croissant.json, MLCommons' description of a dataset for machines.

Every shard is a FileObject with its sha256; a FileSet of all of them feeds the record set `clips`.
https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tutti.datasets.files import write_file
from tutti.datasets.manifest_types import ManifestContent
from tutti.datasets.record import SPLITS
from tutti.datasets.shard import schema
from tutti.datasets.shard_info import ShardInfo
from tutti.pipelines.export.card import COLUMNS, Counts
from tutti.pipelines.export.markdown import web_address
from tutti.pipelines.export.selection import Selection
from tutti.pipelines.export.shards import write_shards

USAGE = """\
import mlcroissant

for clip in mlcroissant.Dataset("FOLDER/croissant.json").records("clips"):
    clip["clips/id"], clip["clips/audio"], clip["clips/presence"], clip["clips/split"]
"""

PARQUET = "application/x-parquet"
# Web sites put it into pages: no text of a corpus may end a script there.
_ENDS_A_SCRIPT = re.compile(r"<(?=[/!?]|script)", re.IGNORECASE)
SHARDS = "shards"  # id of the file set
DATA_TYPES = {
    "string": "sc:Text",
    "int8": "cr:Int8",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
    "float": "cr:Float32",
    "double": "cr:Float64",
}

# The context that the specification prescribes for 1.1, word for word in meaning: readers compare its keys.
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{
        term: f"cr:{term}"
        for term in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject",
            "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
            "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
            "separator", "source", "subField", "transform",
        )
    },
}  # fmt: skip


def write(selection: Selection, folder: Path) -> None:
    """Write shards below `data/`, and croissant.json."""
    shards = write_shards(selection, folder)
    text = croissant_json(selection.manifest.content, selection.counts, shards)
    write_file(folder / "croissant.json", text.encode(), durable=False)


def croissant_json(content: ManifestContent, counts: Counts, shards: Sequence[ShardInfo]) -> str:
    """Encode croissant.json, indented for people; arguments as of `describe`."""
    text = json.dumps(describe(content, counts, shards), indent=1, sort_keys=True, ensure_ascii=False)
    return _ENDS_A_SCRIPT.sub(r"\\u003c", text) + "\n"


def describe(content: ManifestContent, counts: Counts, shards: Sequence[ShardInfo]) -> dict[str, Any]:
    """Describe a folder with shards as Croissant's JSON.

    Args:
        content: manifest.json of the version.
        counts: of the clips in the shards.
        shards: their paths are relative to the folder.
    """
    sources = [entry for name, entry in content["sources"].items() if name in counts.sources]
    titles = "; ".join(entry["title"] for entry in sources)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": content["dataset"],
        "description": f"Clips of music with labels of {len(content['instruments'])} instruments. From: {titles}.",
        # No clock in outputs: there is no date, and the contents are the version.
        "version": f"{content['schema_version']}.0.0+{content['root_digest'][:12]}",
        "license": [license_url(name) for name in counts.licenses],
        "isBasedOn": [url for entry in sources if (url := web_address(entry["homepage"])) is not None],
        "citeAs": "\n".join(entry["citation"] for entry in sources),
        "keywords": ["music", "instrument recognition", "audio classification"],
        "distribution": [*(file_object(shard) for shard in shards if shard.num_rows), file_set()],
        "recordSet": [
            splits_record_set([split for split in SPLITS if counts.splits.get(split)]),
            instruments_record_set(content["instruments"]),
            clips_record_set(schema(content["instruments"], content["recipe"]["prepare"]["sample_rate"])),
        ],
    }


def license_url(license_id: str) -> str:
    """Find a licence's URL: SPDX has a page for each of its identifiers; else the identifier itself."""
    if license_id.startswith("LicenseRef-") or license_id == "unknown":
        return license_id
    return web_address(license_id) or f"https://spdx.org/licenses/{urllib.parse.quote(license_id, safe='+')}"


def file_object(shard: ShardInfo) -> dict[str, Any]:
    """Describe one shard."""
    return {
        "@type": "cr:FileObject",
        "@id": shard.path,
        "name": Path(shard.path).name,
        "contentUrl": shard.path,
        "contentSize": f"{shard.num_bytes} B",
        "encodingFormat": PARQUET,
        "sha256": shard.sha256,
    }


def file_set() -> dict[str, Any]:
    """Describe all shards, in the folder of croissant.json: a set contained in nothing is read from there."""
    return {
        "@type": "cr:FileSet",
        "@id": SHARDS,
        "name": SHARDS,
        "encodingFormat": PARQUET,
        "includes": "data/*.parquet",
    }


def splits_record_set(splits: Sequence[str]) -> dict[str, Any]:
    """Describe the splits, with Croissant's own words for them."""
    urls = {"train": "cr:TrainingSplit", "validation": "cr:ValidationSplit", "test": "cr:TestSplit"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
        ],
        "data": [{"splits/name": split, "splits/url": urls[split]} for split in splits],
    }


def instruments_record_set(instruments: Sequence[str]) -> dict[str, Any]:
    """Describe the classes, by their position in the label columns."""
    return {
        "@type": "cr:RecordSet",
        "@id": "instruments",
        "name": "instruments",
        "dataType": "sc:Enumeration",
        "key": {"@id": "instruments/position"},
        "field": [
            {"@type": "cr:Field", "@id": "instruments/position", "name": "position", "dataType": "cr:Int32"},
            {"@type": "cr:Field", "@id": "instruments/name", "name": "name", "dataType": "sc:Text"},
        ],
        "data": [
            {"instruments/position": position, "instruments/name": name} for position, name in enumerate(instruments)
        ],
    }


def clips_record_set(table_schema: pa.Schema) -> dict[str, Any]:
    """Describe one record per clip: its split, and the columns of a shard."""
    split = {
        "@type": "cr:Field",
        "@id": "clips/split",
        "name": "split",
        "description": "train, validation or test",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": SHARDS},
            "extract": {"fileProperty": "fullpath"},
            # mlcroissant applies it to the path, and again to what came of that when it joins `references`.
            "transform": {"regex": r"^(?:data/)?(train|validation|test)(?:-.*\.parquet)?$"},
        },
        "references": {"field": {"@id": "splits/name"}},
    }
    return {
        "@type": "cr:RecordSet",
        "@id": "clips",
        "name": "clips",
        "key": {"@id": "clips/id"},
        "field": [split, *(column(field) for field in table_schema)],
    }


def column(field: pa.Field) -> dict[str, Any]:
    """Describe one column of the shards."""
    kind, shape, transform = field.type, {}, {}
    if pa.types.is_fixed_size_list(kind):
        kind, shape = kind.value_type, {"isArray": True, "arrayShape": str(field.type.list_size)}
    if pa.types.is_struct(kind):
        transform = {"transform": {"jsonPath": "bytes"}}
    return {
        "@type": "cr:Field",
        "@id": f"clips/{field.name}",
        "name": field.name,
        "description": COLUMNS[field.name],
        "dataType": "sc:AudioObject" if pa.types.is_struct(kind) else DATA_TYPES[str(kind)],
        **shape,
        "source": {"fileSet": {"@id": SHARDS}, "extract": {"column": field.name}, **transform},
    }
