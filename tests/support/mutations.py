"""Seeded mutations of a JSON text: bits, cuts, repeats, and values of other types in other places."""

import json
import random
from collections.abc import Iterator
from typing import Any

NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1.0, 0.5, 1e300, -1e300, 10**18, 10**400, "", "x", "../../x", "/etc/passwd",
    "\u202e", "\x00", "a" * 70_000, [], {}, [[]], [1, 2], {"a": 1}, [None], "train", "kept", "0" * 64,
    [1, None, "human"],
)  # fmt: skip
TOKENS = (b'"', b"{", b"}", b"[", b"]", b",", b":", b"NaN", b"1e999", b"\\ud800", b"\xff", b"\x00", b"\n", b"[" * 2_000,
          b'{"a":' * 2_000, b"9" * 5_000, b"-", b"null", b"true")  # fmt: skip


def mutated(text: bytes, rng: random.Random) -> bytes:
    """One to three mutations of a text, of its bytes or of the value that it stands for."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        text = _other_value(text, rng) if rng.random() < 0.5 else _other_bytes(text, rng)
    return text


def _other_bytes(text: bytes, rng: random.Random) -> bytes:
    at, end = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
    match rng.choice(("flip", "cut", "drop", "repeat", "token")):
        case "flip" if text:
            place = rng.randrange(len(text))
            return text[:place] + bytes([text[place] ^ 1 << rng.randrange(8)]) + text[place + 1 :]
        case "cut":
            return text[:at]
        case "drop":
            return text[:at] + text[min(end, at + 40) :]
        case "repeat":
            return text[:end] + text[at:]
        case _:
            return text[:at] + rng.choice(TOKENS) + text[at:]


def _other_value(text: bytes, rng: random.Random) -> bytes:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _other_bytes(text, rng)
    places = list(_places(value))
    if not places:
        return _other_bytes(text, rng)
    owner, key = rng.choice(places)
    match rng.choice(("nasty", "nasty", "other", "lose", "rename")):
        case "nasty":
            owner[key] = rng.choice(NASTY)
        case "other":
            other, name = rng.choice(places)
            owner[key] = json.loads(json.dumps(other[name]))
        case "lose":
            del owner[key]
        case _ if isinstance(owner, dict):
            owner[rng.choice(("x", "id", "path", "../x", ""))] = owner.pop(key)
        case _:
            owner.append(owner[key])
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(errors="surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (object or list, key) of a value."""
    left = [value]
    while left:
        owner = left.pop()
        keys = list(owner) if isinstance(owner, dict) else range(len(owner)) if isinstance(owner, list) else ()
        for key in keys:
            yield owner, key
            left.append(owner[key])
