"""A frozen dataclass as JSON, and back: every field of its type and within bounds, none that the class lacks.

text = json.dumps(as_json(recipe))
recipe = read_as(Recipe, json.loads(text), "recipe")        ValueError: recipe.seed: expected int, found 'x'
fits(Digest, value)                                          whether it could be read

A type is a dataclass, an `Object`, a tuple of types that it may be, or what annotations say. Bounds stand in the
annotation: `sha256: Digest`, `pitch: Annotated[int, Between(0, 127)]`. What a type asks for is
worked out once: an object of twenty fields takes ten microseconds.
"""

import contextlib
import functools
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeAlias

MAX_CHARACTERS = 60  # of a wrong value that is shown
MAX_INTEGER = 1 << 53  # what every reader of JSON understands
MAX_TEXT = 20_000  # characters of a message or a URL

_Reader: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class Between:
    """Bounds of a number; both are allowed."""

    least: float
    most: float


def is_bearable(text: str) -> bool:
    """Whether a string is not too long and can be written as UTF-8."""
    return len(text) <= MAX_TEXT and (
        text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
    )


# A sha256: 64 lowercase hex digits, so that it names a file and leads nowhere.
Digest: TypeAlias = Annotated[str, re.compile(r"[0-9a-f]{64}").fullmatch]
Word: TypeAlias = Annotated[str, re.compile(r"[a-z][a-z0-9_:]{0,63}").fullmatch]  # of a vocabulary: a reason, a method
Text: TypeAlias = Annotated[str, is_bearable]
Count: TypeAlias = Annotated[int, Between(0, MAX_INTEGER)]
Positive: TypeAlias = Annotated[int, Between(1, MAX_INTEGER)]
Amount: TypeAlias = Annotated[float, Between(0, MAX_INTEGER)]
Share: TypeAlias = Annotated[float, Between(0, 1)]


class Object:
    """The type of an object that stays one: fields with their types, some of which may be left out."""

    def __init__(self, required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> None:
        self.fields, self.optional = {**required, **(optional or {})}, frozenset(optional or {})


class _MisfitError(ValueError):
    """A value is not of its type; `where` leads to it from the outermost one."""

    def __init__(self, words: str, where: str = "") -> None:
        super().__init__(words)
        self.where = where

    def within(self, name: str | int) -> "_MisfitError":
        return _MisfitError(str(self), f".{name}{self.where}")


def as_json(value: Any) -> Any:
    """Make JSON of a value; fields that only say where something lies on this machine (`local`) are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in fields(value) if not f.metadata.get("local")}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_json(item) for item in value]
    return value


def read_as(kind: Any, value: Any, path: str) -> Any:
    """Read a JSON value as the type of its field; one that is annotated `Any` is taken as it stands.

    Raises:
        ValueError: it is of another type, or its object lacks a field, or has one that the type lacks; the message
            names its path.
    """
    try:
        return _reader(kind)(value)
    except _MisfitError as misfit:
        raise ValueError(f"{path}{misfit.where}: {misfit}") from None


def fits(kind: Any, value: Any) -> bool:
    """Whether a JSON value is of a type."""
    return predicate(kind)(value)


@functools.cache
def predicate(kind: Any) -> Callable[[Any], bool]:
    """Make `fits` for one type and many values."""
    reader = _reader(kind)

    def is_one(value: Any) -> bool:
        try:
            reader(value)
        except (TypeError, ValueError):
            return False
        return True

    return is_one


def object_of(value: Any, path: str) -> Mapping[str, Any]:
    """Check that a JSON value is an object.

    Raises:
        ValueError: it is none; the message names its path.
    """
    found: Mapping[str, Any] = read_as(Mapping[str, Any], value, path)
    return found


@functools.cache
def _reader(kind: Any) -> _Reader:
    """Make what reads values of a type; raises _MisfitError."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return lambda value: value
    if isinstance(kind, Object) or (is_dataclass(kind) and isinstance(kind, type)):
        return _object_reader(kind)
    if origin is Annotated:
        return _bounded_reader(*arguments)
    if isinstance(kind, tuple) or origin in (typing.Union, types.UnionType):
        return _union_reader(arguments or kind)
    if origin is tuple:
        return _row_reader(arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping_reader(_reader(arguments[1]))
    return _plain_reader(kind, arguments if origin is typing.Literal else None)


def _plain_reader(kind: Any, choices: tuple[Any, ...] | None) -> _Reader:
    def read_choice(value: Any) -> Any:
        if isinstance(value, str) and choices is not None and value in choices:
            return value
        raise _misfit(kind, value)

    def read_integer(value: Any) -> Any:
        if type(value) is int and -MAX_INTEGER <= value <= MAX_INTEGER:
            return value
        raise _misfit(kind, value)

    def read_number(value: Any) -> Any:
        if type(value) in (float, int) and -MAX_INTEGER <= value <= MAX_INTEGER:  # NaN is on neither side
            return value
        raise _misfit(kind, value)

    def read_other(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise _misfit(kind, value)

    if choices is not None:
        return read_choice
    return {int: read_integer, float: read_number}.get(kind, read_other)


def _bounded_reader(kind: type, bound: Any) -> _Reader:
    """Make a reader of a number with its bounds, or of a string that must pass a function."""

    def read_text(value: Any) -> Any:
        if isinstance(value, kind) and bound(value):
            return value
        raise _misfit(kind, value)

    if not isinstance(bound, Between):
        return read_text
    least, most, kinds = bound.least, bound.most, (int,) if kind is int else (float, int)

    def read_number(value: Any) -> Any:
        if type(value) in kinds and least <= value <= most:
            return value
        raise _misfit(kind, value)

    return read_number


def _union_reader(arguments: tuple[Any, ...]) -> _Reader:
    readers = [_reader(one) for one in arguments if one not in (None, types.NoneType)]

    def read(value: Any) -> Any:
        if value is None and len(readers) < len(arguments):
            return None
        for reader in readers[:-1]:
            with contextlib.suppress(TypeError, ValueError):
                return reader(value)
        return readers[-1](value)  # whose error it is

    return read


def _row_reader(arguments: tuple[Any, ...]) -> _Reader:
    """Make a reader of a list: all of one type (`tuple[int, ...]`), or one type for each place."""
    readers = [_reader(one) for one in arguments if one is not ...]

    def read(value: Any) -> Any:
        if not isinstance(value, list) or (... not in arguments and len(value) != len(readers)):
            raise _misfit(list, value)
        return tuple(_at(number, readers[number % len(readers)], item) for number, item in enumerate(value))

    return read


def _mapping_reader(reader: _Reader) -> _Reader:
    def read(value: Any) -> Any:
        return {name: _at(name, reader, item) for name, item in _checked_object(value).items()}

    return read


def _object_reader(kind: Any) -> _Reader:
    """Make a reader of an `Object`, or of a dataclass, whose fields with defaults may be left out."""
    if isinstance(kind, Object):
        hints, optional, make = kind.fields, kind.optional, dict
    else:
        hints, make = typing.get_type_hints(kind, include_extras=True), kind
        optional = frozenset(f.name for f in fields(kind) if not f.default is f.default_factory is MISSING)
        hints = {f.name: hints[f.name] for f in fields(kind) if not f.metadata.get("local")}
    readers = {name: _reader(hint) for name, hint in hints.items()}
    required = readers.keys() - optional

    def read(value: Any) -> Any:
        values, name = {}, ""
        try:
            for name, item in _checked_object(value).items():
                values[name] = readers[name](item)
        except KeyError:
            raise _MisfitError(f"no field {name[:MAX_CHARACTERS]!r}") from None
        except _MisfitError as misfit:
            raise misfit.within(name) if name else misfit from None
        if not required <= values.keys():
            raise _MisfitError(f"lacks {min(required - values.keys())!r}")
        return values if make is dict else make(**values)

    return read


def _checked_object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, (dict, Mapping)) or not all(type(name) is str for name in value):
        raise _MisfitError(f"expected an object, found {str(value)[:MAX_CHARACTERS]!r}")
    return value


def _at(place: str | int, reader: _Reader, value: Any) -> Any:
    try:
        return reader(value)
    except _MisfitError as misfit:
        raise misfit.within(place) from None


def _misfit(kind: Any, value: Any) -> _MisfitError:
    return _MisfitError(f"expected {getattr(kind, '__name__', kind)}, found {str(value)[:MAX_CHARACTERS]!r}")
