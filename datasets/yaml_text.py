"""Read metadata of songs in YAML, from untrusted files.

Scalars stay text, whatever they look like: `has_bleed: no` is "no" with and without quotes, a title `1e3` no number,
and an integer of a million digits is never converted. Null is "", "null" or "~", as it is written.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from tutti.datasets.errors import IntegrityError

MAX_BYTES = 1 << 20  # the largest of MedleyDB's has 20 kB


def read_mapping(data: bytes, name: str) -> Mapping[str, Any]:
    """Parse a YAML file whose content is a mapping; its values are texts, lists and mappings of such.

    Args:
        data: bytes of the file, UTF-8.
        name: of the file, for errors.

    Raises:
        IntegrityError: it is empty, too large, no YAML, or no mapping; the message names it.
    """
    if len(data) > MAX_BYTES:
        raise IntegrityError(f"{name}: has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, yaml.CBaseLoader)):
            raise yaml.YAMLError("holds an alias (*name), which no metadata needs")  # and can make a gigabyte of a line
        content = yaml.load(data, yaml.CBaseLoader)  # constructs no objects
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())[:200]
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f":{mark.line + 1}"
        raise IntegrityError(f"{name}{where}: is no YAML ({reason})") from error
    if content is None or content == "":
        raise IntegrityError(f"{name}: is empty")
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise IntegrityError(f"{name}: is no mapping of names to values")
    return content
