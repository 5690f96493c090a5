"""The JSON Schema of manifest.json and of the clip rows, and what of it a given content breaks.

    for problem in manifest_problems(content): ...

The schema is `manifest_schema.json` beside this file (JSON Schema 2020-12). Unknown fields are
allowed in manifest.json, so that a later minor version can add some; a clip row has none.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

SCHEMA_FILE = Path(__file__).with_suffix(".json")
SHOWN_CHARACTERS = 160  # of a problem; jsonschema quotes whole objects


def manifest_problems(content: Any) -> list[str]:
    """What of a manifest breaks the schema: `counts.kept: -1 is less than the minimum of 0`."""
    return list(_problems(_validator(""), content))


def row_problems(row: Any) -> list[str]:
    """What of a clip row breaks the schema."""
    return list(_problems(_validator("#/$defs/clip_row"), row))


@functools.cache
def schema() -> dict[str, Any]:
    """The schema itself."""
    parsed: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return parsed


@functools.cache
def _validator(pointer: str) -> Validator:
    chosen = {"$ref": pointer, "$defs": schema()["$defs"]} if pointer else schema()
    return Draft202012Validator(chosen)


def _problems(validator: Validator, value: Any) -> Iterator[str]:
    for error in sorted(validator.iter_errors(value), key=lambda one: (list(map(str, one.absolute_path)), one.message)):
        place = ".".join(map(str, error.absolute_path)) or "the object"
        yield f"{place}: {error.message}"[:SHOWN_CHARACTERS]
