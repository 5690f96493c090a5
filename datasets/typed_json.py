"""A JSON value as the dataclass that it was written from: every field of its type, none that the class lacks.

recipe = read_as(Recipe, json.loads(text), "recipe")        ValueError: recipe.seed: expected int, found 'x'
"""

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

MAX_CHARACTERS = 60  # of a wrong value that is shown
MAX_INTEGER = 1 << 53  # what every reader of JSON understands


def object_of(value: Any, path: str) -> Mapping[str, Any]:
    """Check that a JSON value is an object.

    Raises:
        ValueError: it is none; the message names its path.
    """
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{path}: expected an object, found {str(value)[:MAX_CHARACTERS]!r}")
    return value


def read_as(kind: Any, value: Any, path: str) -> Any:
    """Convert a JSON value to the type of its field.

    Raises:
        ValueError: it is of another type, or its object has a field that the type lacks.
    """
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        known = {field.name for field in fields(kind) if not field.metadata.get("local")}
        if strange := sorted(object_of(value, path).keys() - known):
            raise ValueError(f"{path}: no field {strange[0][:MAX_CHARACTERS]!r}")
        return kind(**{name: read_as(hints[name], item, f"{path}.{name}") for name, item in value.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal and isinstance(value, str) and value in arguments:
        return value
    if origin in (typing.Union, types.UnionType):
        return read_as(next((one for one in arguments if _may_be(one, value)), arguments[0]), value, path)
    if origin is tuple and isinstance(value, list):
        return tuple(read_as(arguments[0], item, f"{path}.{number}") for number, item in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {name: read_as(arguments[1], item, f"{path}.{name}") for name, item in object_of(value, path).items()}
    if _may_be(kind, value):
        return value
    raise ValueError(f"{path}: expected {getattr(kind, '__name__', kind)}, found {str(value)[:MAX_CHARACTERS]!r}")


def _may_be(kind: Any, value: Any) -> bool:
    """Whether a JSON value is of the kind, as far as its outermost type tells."""
    if kind is float:
        return type(value) in (int, float) and abs(value) <= MAX_INTEGER
    if kind is int:
        return type(value) is int and abs(value) <= MAX_INTEGER
    origin = typing.get_origin(kind)
    if origin is tuple:
        return isinstance(value, list)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    return isinstance(kind, type) and isinstance(value, kind)
