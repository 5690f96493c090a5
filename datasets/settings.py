"""Text to typed settings, and the nearest name to a misspelt one: what `--set` means everywhere.

| Type of the field | Text |
|---|---|
| number, string, word of a list, true or false | itself; `none` or nothing where it may be missing |
| several values | `irmas,audioset`, or JSON: `["irmas", "audioset"]` |
| values by name | `irmas:0.13,audioset:0.11`, or JSON; one of them: `outliers.fixed_cutoffs.irmas=0.13` |
| such values by name in turn | `irmas/train:train; irmas/test:train:0.5,validation:0.5`, or JSON |
| a group of fields | JSON: `outliers.fit={"folds": 5}`; one of them: `outliers.fit.folds=5` |

JSON reads back whatever `typed_json.as_json` writes.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from tutti.datasets.errors import UsageError
from tutti.datasets.typed_json import read_as

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
    owner = _plain(owner)
    if owner not in groups:
        raise UsageError(f"--set {override}: no {what} {owner!r}{nearest(owner, groups)}; known: {', '.join(groups)}")
    try:
        return owner, with_value(groups[owner], names, text)
    except ValueError as error:
        raise UsageError(f"--set {override}: {error}") from error


def _split(override: str, least: int, expected: str) -> tuple[list[str], str]:
    """Split `a.b=value` into at least so many names, and the value."""
    path, equals, text = override.partition("=")
    names = path.strip().split(".")
    if not equals or len(names) < least:
        raise UsageError(f"--set {override}: expected {expected}")
    return names, text


def _full_path(config: Any, names: list[str], own_fields: Sequence[str]) -> list[str]:
    """Prepend the group's name to a path where it was left out."""
    names = [_plain(names[0]), *names[1:]]
    if len(names) > 1 or names[0] in _fields(config):
        return names
    groups = {name: getattr(config, name) for name in _fields(config) if name not in own_fields}
    owners = [name for name, value in groups.items() if dataclasses.is_dataclass(value) and names[0] in _fields(value)]
    return [owners[0], *names] if len(owners) == 1 else names


def _fields(config: Any) -> list[str]:
    return [item.name for item in dataclasses.fields(config) if item.name != "name"]


def _plain(name: str) -> str:
    return name.strip().replace("-", "_")


def with_value(config: Any, path: Sequence[str], text: str) -> Any:
    """Replace one field of a frozen dataclass, or of one in it, by a value that is given as text.

    Args:
        config: with typed fields.
        path: the field's name, after those of the dataclasses that it lies in; of a mapping, its key may follow.
        text: the value.

    Raises:
        ValueError: no such field (the message names the nearest), or a value that does not fit.
    """
    name, *rest = path
    name, fields = _plain(name), _fields(config)
    if name not in fields:
        raise ValueError(f"no field {name!r}{nearest(name, fields)}; known: {', '.join(fields)}")
    value, kind = getattr(config, name), typing.get_type_hints(type(config))[name]
    if dataclasses.is_dataclass(value):
        return replace(config, **{name: with_value(value, rest, text) if rest else _with_values(value, name, text)})
    if rest:
        return replace(config, **{name: _with_entry(value, kind, [name, *rest], text)})
    return replace(config, **{name: parse_value(text.strip(), kind)})


def _with_values(group: Any, name: str, text: str) -> Any:
    """Replace the fields of a dataclass that JSON names."""
    values = _from_json(text)
    if not isinstance(values, dict):
        inner = ", ".join(f"{name}.{field}" for field in _fields(group))
        raise ValueError(f"{name!r} is a group; set one of {inner}")
    for field, value in values.items():
        group = with_value(group, [field], value if isinstance(value, str) else json.dumps(value))
    return group


def _with_entry(value: Any, kind: Any, path: Sequence[str], text: str) -> Any:
    """Replace one entry of a mapping, or of one in it; `path` begins with the mapping's own name."""
    name, key, *rest = path
    mapping = next((option for option in _options(kind) if _is_mapping(option)), None)
    if mapping is None or not isinstance(value, Mapping):
        raise ValueError(f"{name!r} has no fields of its own")
    kind_of_entry = get_args(mapping)[1]
    if rest:
        if key not in value:
            raise ValueError(f"{name!r} has no {key!r}{nearest(key, value)}; it has {', '.join(value)}")
        return {**value, key: _with_entry(value[key], kind_of_entry, [key, *rest], text)}
    return {**value, key: parse_value(text.strip(), kind_of_entry)}


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the most similar known word as ` (did you mean 'x'?)`; empty where none is similar."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""


def parse_value(text: str, kind: Any) -> Any:
    """Read a value of an annotated type, as the table above says.

    Raises:
        ValueError: the text is no such value, or the type cannot be given as text.
    """
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        if text not in options:
            raise ValueError(f"expected one of {', '.join(map(str, options))}{nearest(text, options)}")
        return text
    if len(inner := _options(kind)) > 1 or inner != [kind]:
        if type(None) in options and text.lower() in ("none", "null", ""):
            return None
        return _parse_one_of(text, inner)
    if origin is tuple or _is_mapping(kind):
        return _parse_several(text, kind)
    if kind is bool:
        if text.lower() not in _TRUTH:
            raise ValueError("expected true or false")
        return _TRUTH[text.lower()]
    if kind not in (int, float, str):
        raise ValueError(f"a field of type {getattr(kind, '__name__', kind)} is set in the recipe's Python file")
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"expected {kind.__name__}, got {text!r}") from None
    if kind is float and not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


def _options(kind: Any) -> list[Any]:
    """List the types that a value may have, None apart."""
    if get_origin(kind) not in (Union, types.UnionType):
        return [kind]
    return [option for option in get_args(kind) if option is not type(None)]


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _parse_one_of(text: str, options: Sequence[Any]) -> Any:
    """Read a value of the first type that fits; a text with a colon is one of values by name, where that may be."""
    by_name = [option for option in options if _is_mapping(option)]
    if by_name and (":" in text or text.startswith("{")):
        options = by_name
    else:
        options = [option for option in options if option not in by_name] or by_name
    for option in options[:-1]:
        try:
            return parse_value(text, option)
        except ValueError:
            continue
    return parse_value(text, options[-1])


def _parse_several(text: str, kind: Any) -> Any:
    """Read a tuple or a mapping from JSON or its short form."""
    written = _from_json(text) if text[:1] in ("[", "{") else None
    if written is not None:
        try:
            return _with_floats(read_as(kind, written, "value"), kind)
        except ValueError as error:
            if get_origin(kind) is not tuple:  # "[cla]*" is a pattern
                raise ValueError(f"{error}, in JSON") from None
    return _parse_mapping(text, kind) if _is_mapping(kind) else _parse_tuple(text, kind)


def _parse_tuple(text: str, kind: Any) -> tuple[Any, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    kinds = get_args(kind)
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(parts)
    if len(parts) != len(kinds):
        raise ValueError(f"expected {len(kinds)} values, as in 1,2; got {text!r}")
    return tuple(parse_value(part, one) for part, one in zip(parts, kinds, strict=True))


def _parse_mapping(text: str, kind: Any) -> dict[str, Any]:
    kind_of_entry = get_args(kind)[1]
    is_nested = any(map(_is_mapping, _options(kind_of_entry)))
    entries: dict[str, Any] = {}
    for part in text.split(";" if is_nested else ","):
        if not part.strip():
            continue
        name, colon, value = (piece.strip() for piece in part.partition(":"))
        if not (name and colon):
            example = "a:train; b:train:0.5,test:0.5" if is_nested else "a:1,b:2"
            raise ValueError(f"expected values by name, as in {example}; got {part.strip()!r}")
        if name in entries:
            raise ValueError(f"{name!r} stands twice")
        entries[name] = parse_value(value, kind_of_entry)
    return entries


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _with_floats(value: Any, kind: Any) -> Any:
    """Turn the whole numbers of a JSON value into floats where the type says so: 1 and 1.0 are one recipe."""
    if isinstance(value, tuple):
        kinds = get_args(kind)
        return tuple(_with_floats(item, kinds[0 if kinds[-1] is ... else at]) for at, item in enumerate(value))
    options = _options(kind)
    if isinstance(value, Mapping):
        inner = next(get_args(option)[1] for option in options if _is_mapping(option))
        return {name: _with_floats(item, inner) for name, item in value.items()}
    return float(value) if type(value) is int and float in options and int not in options else value
