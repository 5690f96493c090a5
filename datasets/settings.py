"""Text to typed settings, and the nearest name to a misspelt one: what `--set` means everywhere."""

import difflib
import math
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

_TRUTH = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where something similar is known, else nothing."""
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
