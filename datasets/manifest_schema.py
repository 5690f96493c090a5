"""The JSON Schema of manifest.json and of the clip rows, and what of it a given content breaks.

    for problem in manifest_problems(content): ...      all of them
    if (problem := manifest_problem(content)) ...       the first: what every reader asks before it trusts a manifest

The schema is `manifest_schema.json` beside this file (JSON Schema 2020-12). Unknown fields are
allowed in manifest.json, so that a later minor version can add some; a clip row has none. What one
field says of another no schema can tell: `contradictions` does.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from tutti.datasets.machine import INPUT_CHANGED
from tutti.datasets.record import SPLITS
from tutti.datasets.shard import shard_path

SCHEMA_FILE = Path(__file__).with_suffix(".json")
SHOWN_CHARACTERS = 160  # of a problem; jsonschema quotes whole objects


def manifest_problem(content: Any) -> str | None:
    """Find the first breach of the schema, or contradiction between fields, of a manifest; None: there is none.

    Args:
        content: a value of JSON, not nested too deep.
    """
    error = next(_validator("").iter_errors(content), None)
    return next(contradictions(content), None) if error is None else _described(error)


def manifest_problems(content: Any) -> list[str]:
    """List the breaches of the schema in a manifest: `counts.kept: -1 is less than the minimum of 0`."""
    return list(_problems(_validator(""), content))


def row_problems(row: Any) -> list[str]:
    """List the breaches of the schema in a clip row."""
    return list(_problems(_validator("clip_row"), row))


def contradictions(content: Mapping[str, Any]) -> Iterator[str]:
    """Find contradictions between the fields of a manifest that keeps to the schema."""
    counts, instruments = content["counts"], set(content["instruments"])
    for kind in ("shards", "clips", "files"):
        paths = Counter(file["path"] for file in content.get(kind, ()))
        yield from (f"{kind}: {path} stands twice" for path, times in paths.items() if times > 1)
    if content["dataset"] != content["recipe"]["name"]:
        yield f"dataset: {content['dataset']!r} is not the name of its recipe"
    if content["recipe"].get("instruments") not in (None, content["instruments"]):
        yield "instruments: not those of its recipe"
    if set(content["sources"]) != set(content["recipe"]["sources"]):
        yield "sources: not those of its recipe"
    if strange := sorted(set(counts["sources"]) - set(content["sources"])):
        yield f"counts.sources.{strange[0]}: not among the sources"
    for split in SPLITS:
        shards = sorted((shard for shard in content["shards"] if shard["split"] == split), key=lambda one: one["path"])
        if [shard["path"] for shard in shards] != [shard_path(split, n, len(shards)) for n in range(len(shards))]:
            yield f"shards: not the numbered shards of {split}, each with this split"
        if sum(shard["num_rows"] for shard in shards) != counts["splits"][split]:
            yield f"counts.splits.{split}: not the rows of its shards"
        if set(counts["present"][split]) != instruments:
            yield f"counts.present.{split}: not the instruments"
    if sum(counts["splits"].values()) != counts["kept"]:
        yield "counts.kept: not the sum of the splits"
    for reason, number in content.get("incomplete", {}).items():
        if reason != INPUT_CHANGED and counts["rejected"].get(reason) != number:
            yield f"incomplete.{reason}: not what counts.rejected says"


@functools.cache
def schema() -> dict[str, Any]:
    """Read the JSON schema."""
    parsed: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return parsed


@functools.cache
def _validator(name: str) -> Validator:
    """Build the validator of a definition, or of a whole manifest where `name` is empty."""
    chosen = schema()["$defs"][name] if name else schema()
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)  # 1.0 is none
    ours = extend(Draft202012Validator, {"pattern": _matches}, type_checker=types)  # type: ignore[no-untyped-call]
    validator: Validator = ours(_inlined(chosen))
    return validator


def _inlined(part: Any) -> Any:
    """Replace a schema's references by their definitions, which halves the time of a check."""
    if isinstance(part, list):
        return [_inlined(one) for one in part]
    if not isinstance(part, dict):
        return part
    rest = {name: _inlined(value) for name, value in part.items() if name not in ("$ref", "$defs")}
    if "$ref" in part:
        rest = {**_inlined(schema()["$defs"][part["$ref"].removeprefix("#/$defs/")]), **rest}
    return rest


def _matches(validator: Validator, pattern: str, value: Any, _: Any) -> Iterator[ValidationError]:
    r"""Match a pattern as ECMA 262 does: its `$` is the very end, Python's also matches before a last line feed."""
    if validator.is_type(value, "string") and not re.search(pattern.removesuffix("$") + r"\Z", value):
        yield ValidationError(f"{value[:SHOWN_CHARACTERS]!r} does not match {pattern!r}")


def _problems(validator: Validator, value: Any) -> Iterator[str]:
    yield from map(
        _described,
        sorted(validator.iter_errors(value), key=lambda one: (list(map(str, one.absolute_path)), one.message)),
    )


def _described(error: ValidationError) -> str:
    place = ".".join(map(str, error.absolute_path)) or "the object"
    return f"{place[:SHOWN_CHARACTERS]}: {error.message}"[:SHOWN_CHARACTERS]
