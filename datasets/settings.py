"""Text to typed settings, and the nearest name to a misspelt one: what `--set` means everywhere."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from tutti.datasets.errors import UsageError

T = TypeVar("T")

_TRUTH = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


def with_field(config: T, override: str, own_fields: Sequence[str] = ()) -> T:
    """Apply one `field=value` to a frozen dataclass, or `group.field=value` to one in it; the rest stays.

    Args:
        config: with typed fields; `name` cannot be set.
        override: what `--set` was given. A field of one group alone may stand without the group's name.
        own_fields: groups whose fields need the group's name.

    Raises:
        UsageError: no such field (the message names the nearest), or a value that does not fit.
    """
    names, text = _split(override, 1, "field=value, as in --set epochs=3")
    try:
        changed: T = with_value(config, _full_path(config, names, own_fields), text)
    except ValueError as error:
        raise UsageError(f"--set {override}: {error}") from error
    return changed


def with_group_field(groups: Mapping[str, Any], override: str, what: str) -> tuple[str, Any]:
    """Apply one `group.field=value` to the frozen dataclass that has the group's name.

    Args:
        groups: by name.
        override: what `--set` was given.
        what: the groups are, for messages: "stage or source".

    Returns:
        The group's name, and the changed group.

    Raises:
        UsageError: no such group or field (the message names the nearest), or a value that does not fit.
    """
    (owner, *names), text = _split(override, 2, f"{what.partition(' ')[0]}.field=value")
    if owner not in groups:
        raise UsageError(f"--set {override}: no {what} {owner!r}{nearest(owner, groups)}; known: {', '.join(groups)}")
    try:
        return owner, with_value(groups[owner], names, text)
    except ValueError as error:
        raise UsageError(f"--set {override}: {error}") from error


def _split(override: str, least: int, expected: str) -> tuple[list[str], str]:
    """Split `a.b=value` into at least so many names, and the value."""
    path, equals, text = override.partition("=")
    names = path.strip().replace("-", "_").split(".")
    if not equals or len(names) < least:
        raise UsageError(f"--set {override}: expected {expected}")
    return names, text


def _full_path(config: Any, names: list[str], own_fields: Sequence[str]) -> list[str]:
    """Prepend the group's name to a path where it was left out."""
    if len(names) > 1 or names[0] in _fields(config):
        return names
    groups = {name: getattr(config, name) for name in _fields(config) if name not in own_fields}
    owners = [name for name, value in groups.items() if dataclasses.is_dataclass(value) and names[0] in _fields(value)]
    return [owners[0], *names] if len(owners) == 1 else names


def _fields(config: Any) -> list[str]:
    return [item.name for item in dataclasses.fields(config) if item.name != "name"]


def with_value(config: Any, path: Sequence[str], text: str) -> Any:
    """Replace one field of a frozen dataclass, or of one in it, by a value that is given as text.

    Args:
        config: with typed fields.
        path: the field's name, after those of the dataclasses that it lies in.
        text: the value.

    Raises:
        ValueError: no such field (the message names the nearest), or a value that does not fit.
    """
    name, *rest = path
    fields = _fields(config)
    if name not in fields:
        raise ValueError(f"no field {name!r}{nearest(name, fields)}; known: {', '.join(fields)}")
    value = getattr(config, name)
    if rest:
        if not dataclasses.is_dataclass(value):
            raise ValueError(f"{name!r} has no fields of its own")
        return replace(config, **{name: with_value(value, rest, text)})
    if dataclasses.is_dataclass(value):
        inner = ", ".join(f"{name}.{item.name}" for item in dataclasses.fields(value))
        raise ValueError(f"{name!r} is a group; set one of {inner}")
    return replace(config, **{name: parse_value(text.strip(), typing.get_type_hints(type(config))[name])})


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the most similar known word as ` (did you mean 'x'?)`; empty where none is similar."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""


def parse_value(text: str, kind: Any) -> Any:
    """Read a value of an annotated type: str, int, float, bool, Literal, tuple of str, or None.

    Raises:
        ValueError: the text is no such value, or the type cannot be given as text.
    """
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        if text not in options:
            raise ValueError(f"expected one of {', '.join(map(str, options))}{nearest(text, options)}")
        return text
    if origin in (Union, types.UnionType):
        if text.lower() in ("none", ""):
            return None
        inner = [option for option in options if option is not type(None)]
        return parse_value(text, inner[0])
    if origin is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() not in _TRUTH:
            raise ValueError("expected true or false")
        return _TRUTH[text.lower()]
    if kind not in (int, float, str):
        raise ValueError(f"a field of type {kind} is set in the recipe's Python file")
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"expected {kind.__name__}, got {text!r}") from None
    if kind is float and not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value
