"""Encoding of the stages' results: each carries its own digest, and has the shape of its stage.

    {"sha256":"<64 hex digits>","result":<canonical JSON>}

The digest is over stage, key and result, so a flipped bit is seen, and so is a result that was copied under another
name. It is no signature: whoever can write to a cache can also seal what they write. So a result is typed when it is
read, and no value of it leads out of the cache, or is a number that nothing can be.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from datasets.manifest import canonical_json

MAX_BYTES = 16 << 20  # of a result; the longest, notes of a score that no soundfont plays, have some megabytes
MAX_TEXT = 20_000  # characters of a message or a URL
MOST = 1 << 53  # of counts: a float still tells it from its neighbors

Check: TypeAlias = Callable[[Any], bool]

_HEAD, _MIDDLE, _TAIL = b'{"sha256":"', b'","result":', b"}"
_BODY = len(_HEAD) + 64 + len(_MIDDLE)
_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch
_SKETCH = re.compile(r"[0-9a-f]{16}")
_WORD = re.compile(r"[a-z][a-z0-9_:]{0,63}")


class DamagedResultError(ValueError):
    """The bytes are no result of this stage under this key."""


class OlderResultError(DamagedResultError):
    """They are one as it was written before results had digests."""


def encode(stage: str, key: str, result: Any) -> bytes:
    """Encode a result as bytes, with its digest."""
    body = canonical_json(result).encode()
    return b"".join((_HEAD, _seal(stage, key, body), _MIDDLE, body, _TAIL))


def decode(stage: str, key: str, content: bytes) -> Any:
    """Decode a result and check its digest and shape.

    Raises:
        DamagedResultError: they are not what was written for this stage and key, or no result of this stage.
    """
    if len(content) > MAX_BYTES:
        raise DamagedResultError(f"it has more than {MAX_BYTES} bytes")
    body = content[_BODY : -len(_TAIL)]
    if content != b"".join((_HEAD, _seal(stage, key, body), _MIDDLE, body, _TAIL)):
        if _is_older(stage, content):
            raise OlderResultError("it has no digest")
        raise DamagedResultError("its digest is another")
    result = _parsed(body)
    if not fits(stage, result):
        raise DamagedResultError(f"it is nothing that {stage} says")
    return result


def decode_older(stage: str, content: bytes) -> Any:
    """Decode bytes from before results had digests, for what the caller checks by other means.

    Raises:
        DamagedResultError: it is none.
    """
    result = _parsed(content)
    if not fits(stage, result):
        raise DamagedResultError(f"it is nothing that {stage} says")
    return result


def fits(stage: str, result: Any) -> bool:
    """Whether a stage may say this; of a stage that is not known anything is taken."""
    check = SHAPES.get(stage)
    return check is None or check(result)


def _seal(stage: str, key: str, body: bytes) -> bytes:
    return hashlib.sha256(b"\n".join((stage.encode(), key.encode(), body))).hexdigest().encode()


def _is_older(stage: str, content: bytes) -> bool:
    try:
        return stage in SHAPES and fits(stage, _parsed(content))
    except DamagedResultError:
        return False


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedResultError(f"it is no JSON ({type(error).__name__})") from error


# --- what values may be


def is_digest(value: Any) -> bool:
    """Whether it is a sha256: 64 lowercase hex digits, so that it names a file and leads nowhere."""
    return isinstance(value, str) and _is_digest(value) is not None


def is_text(value: Any) -> bool:
    """Whether it is a string of bearable length that can be written as UTF-8."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return (type(value) is float or type(value) is int) and -MOST <= value <= MOST  # NaN is on neither side


def is_word(value: Any) -> bool:
    """Whether it is one word of a vocabulary: a reason, a method."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _matches(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _between(least: float, most: float) -> Check:
    return lambda value: (type(value) is float or type(value) is int) and least <= value <= most


def _count(least: int = 0, most: int = MOST) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Make a check: an object with these fields and no others."""
    checks = {**required, **(optional or {})}
    names = required.keys()

    def check(value: Any) -> bool:
        if not isinstance(value, dict) or not names <= value.keys() <= checks.keys():
            return False
        for name, content in value.items():  # noqa: SIM110  # a generator would take twice the time
            if not checks[name](content):
                return False
        return True

    return check


def _row(*checks: Check) -> Check:
    """Make a check: a list of so many values."""

    def check(value: Any) -> bool:
        return isinstance(value, list) and len(value) == len(checks) and all(map(_holds, checks, value))

    return check


def _holds(check: Check, value: Any) -> bool:
    return check(value)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


_AUDIO = _record(  # of datasets.record.StoredAudio
    {
        "blob": is_digest,
        "pcm_sha256": is_digest,
        "native_sha256": is_digest,
        "source_sha256": is_digest,
        "sample_rate": _count(1),
        "num_samples": _count(),
        "native_sample_rate": _count(1),
        "native_num_samples": _count(),
        "num_channels": _count(1),
        "codec": is_text,
        "decoder": is_text,
        "silence_share": _between(0, 1),
        "loudness_lufs": _or_none(is_number),
        "gain_db": is_number,
        "true_peak_dbtp": _or_none(is_number),
        "complete": _is_flag,
    },
    {"mean_amplitude": _or_none(_between(0, MOST)), "sketch": _matches(_SKETCH)},
)
_ALIGNMENT = _record({"delay_s": is_number, "score": _between(-1.001, 1.001)})
_NOTE = _row(is_number, is_number, _count(0, 127), _count(0, 128), _or_none(is_text), _count(1, 127))
_BLOB = _record({"blob": is_digest})
_FETCHED = _record({"sha256": is_digest}, {"url": is_text})

SHAPES: Mapping[str, Check] = {
    "download": _FETCHED,
    "first_use": _FETCHED,
    "gunzip": _record({"sha256": is_digest, "num_bytes": _count()}),
    "sample": _record({"sha256": is_digest}),
    "own": _record({"look": _row(*[_count(-MOST, 1 << 66)] * 5), "sha256": is_digest, "num_bytes": _count()}),
    "own_length": _record({"duration_s": _between(0, MOST)}),
    "prepare": _either(
        _record({"audio": _AUDIO}, {"alignment": _ALIGNMENT}),
        _record({"reason": is_word, "detail": is_text}, {"value": _or_none(is_number)}),
    ),
    "embed": _BLOB,
    "fingerprint": _BLOB,
    "render": _record({"blob": is_digest, "silent": _list_of(_NOTE)}),
    "write": _record(  # of datasets.shard.ShardInfo
        {
            "path": is_text,
            "split": is_text,
            "num_rows": _count(),
            "num_bytes": _count(),
            "sha256": is_digest,
            "content_sha256": is_digest,
        }
    ),
}
