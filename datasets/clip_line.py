"""A clip's row as one line of a manifest: nothing is lost, and 200,000 of them stay small enough for git.

    line = encode(row)      a line of clips/00.jsonl, without its line feed
    row = decode(line)      the row again, all fields by name, each of its type and within its bounds
    row = unpack(line)      the same of whatever has the form of a line: `row_problems` tells what is wrong with it

What the id and the audio say already is left out (source, recording, group, start, end), digests are base64url, what
was measured of the audio is a list in the order of `AUDIO_FIELDS`, and labels are words by origin:

    "labels": {"crowd": "+cello=0.754682 -organ=0.094666", "human": "+voice -piano"}

A value that does not fit such a form stands as it is, so every row has exactly one line, and fields
that a later version adds simply stand there by name.
"""

import base64
import binascii
import functools
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tutti.datasets.bounded import MAX_DIGITS, no_number, unique_keys
from tutti.datasets.clip_types import ClipRow as ClipRow
from tutti.datasets.clip_types import fits

AUDIO_FIELDS = (
    "pcm_sha256", "native_sha256", "source_sha256", "sketch", "sample_rate", "num_samples", "native_sample_rate",
    "codec", "decoder", "loudness_lufs", "gain_db", "true_peak_dbtp", "silence_share",
)  # fmt: skip
DIGEST_DIGITS = 32  # of native_sha256 and source_sha256: their first 128 bits, enough to tell any two files apart

_HEX_DIGITS = (64, DIGEST_DIGITS, DIGEST_DIGITS, 16)  # of the first AUDIO_FIELDS
_TEXTS = tuple((length, "=" * (-length % 4)) for length in ((digits * 4 + 5) // 6 for digits in _HEX_DIGITS))  # base64
_HEX = re.compile(r"[0-9a-f]+")
_ID = re.compile(r"([^/]*)/(.*)@([0-9]{1,15})", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_is_plain = functools.lru_cache(1 << 14)(re.compile(r"[^\s=]+").fullmatch)  # a name that can be part of a word
_SIGNS = {"+": 1, "-": 0}
_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=no_number)
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def encode(row: Mapping[str, Any]) -> str:
    """Encode a row as a line of JSON; fields that follow from others are left out."""
    fields = dict(row)
    for name, value in _implied(fields["id"]).items():
        if name in fields and _same(fields[name], value):
            del fields[name]
    if fields.get("status") == "kept":
        del fields["status"]
    fields["labels"] = _pack_labels(fields.get("labels", {}))
    if not fields["labels"]:
        del fields["labels"]
    if "audio" in fields:
        end_s = _implied_end(row)
        if "end_s" not in fields:
            fields["end_s"] = None
        elif end_s is not None and _same(fields["end_s"], end_s):
            del fields["end_s"]
        fields["audio"] = _pack_audio(fields["audio"])
    return _ENCODER.encode(fields)


def decode(line: bytes) -> ClipRow:
    """Decode a line into a row whose fields all have the schema's types and bounds.

    Raises:
        ValueError: it is no line that `encode` writes, or its row is none; the message says why.
    """
    row = unpack(line)
    if not fits(row):
        raise ValueError(f"not a clip row: {_problem(row)}")
    return row


def _problem(row: Mapping[str, Any]) -> str:
    from tutti.datasets.manifest_schema import row_problems  # only where something is wrong

    return next(iter(row_problems(row)), "a value has another type or size than the schema allows")


def unpack(line: bytes) -> dict[str, Any]:
    """Decode a line into a row without checking the values of its fields.

    Raises:
        ValueError: it has not; the message says why.
    """
    try:
        fields = _DECODER.decode(line.decode())
        if b"\\u" in line:  # half a surrogate pair can only be written so
            _ENCODER.encode(fields).encode()
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8, and numbers of thousands of digits
        raise ValueError(f"not a JSON line ({str(error)[:MAX_DIGITS]})") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("id"), str):
        raise ValueError("not a clip row: needs an id")
    implied = _implied(fields["id"])
    if not implied:
        raise ValueError(f"not a clip row: its id is {fields['id'][:MAX_DIGITS]!r}, not source/key@start_ms")
    labels, audio = fields.pop("labels", {}), fields.pop("audio", None)
    row: dict[str, Any] = {**implied, "status": "kept", **fields, "labels": _unpack_labels(labels)}
    if audio is not None:
        row["audio"] = _unpack_audio(audio)
        end_s = row["end_s"] if "end_s" in row else _implied_end(row)
        if end_s is None:
            row.pop("end_s", None)
        else:
            row["end_s"] = end_s
    return row


def _same(value: Any, implied: Any) -> bool:
    return type(value) is type(implied) and value == implied


def _implied(clip_id: str) -> dict[str, Any]:
    """Derive fields from an id, `source/key@start_ms`."""
    found = _ID.fullmatch(clip_id)
    if found is None:
        return {}
    source, key, start_ms = found.groups()
    return {"source": source, "recording": key, "group": f"{source}/{key}", "start_s": int(start_ms) / 1000}


def _implied_end(row: Mapping[str, Any]) -> float | None:
    """Compute the end in seconds of a clip that is as long as its stored audio; None where that is not known."""
    audio, start_s = row["audio"], row.get("start_s")
    numbers = (start_s, audio.get("num_samples"), audio.get("sample_rate")) if isinstance(audio, dict) else ()
    if not numbers or not all(type(number) in (int, float) for number in numbers) or not audio["sample_rate"]:
        return None
    try:
        return round(float(start_s + audio["num_samples"] / audio["sample_rate"]), 6)
    except OverflowError:  # of whole numbers that no audio has
        return None


def _pack_labels(labels: Any) -> Any:
    if not all(_fits(name, label) for name, label in labels.items()):
        return labels
    words = defaultdict(list)
    for name, (presence, confidence, origin) in sorted(labels.items()):
        sure = "" if confidence is None else f"={_number(confidence)}"
        words[origin].append(f"{'+' if presence else '-'}{name}{sure}")
    return {origin: " ".join(found) for origin, found in words.items()}


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"Out of range float values are not JSON compliant: {value}")
    return repr(value)  # what JSON's encoder writes, without its calls


def _fits(name: str, label: Any) -> bool:
    if not isinstance(label, (list, tuple)) or len(label) != 3:
        return False
    presence, confidence, origin = label
    return (
        _is_plain(name) is not None
        and type(presence) is int
        and presence in (0, 1)
        and (confidence is None or type(confidence) in (int, float))
        and isinstance(origin, str)
    )


def _unpack_labels(packed: Any) -> dict[str, Any]:
    labels: dict[str, Any] = {}
    if not isinstance(packed, dict):
        raise ValueError(f"labels: expected an object, found {type(packed).__name__}")
    for key, value in packed.items():
        if not isinstance(value, str):  # as it was
            labels[key] = value
            continue
        for word in value.split(" "):
            name, presence, confidence = _label(word)
            if name in labels:
                raise ValueError(f"labels: {word[:MAX_DIGITS]!r} stands twice")
            labels[name] = [presence, confidence, key]
    return labels


@functools.lru_cache(maxsize=1 << 14)
def _label(word: str) -> tuple[str, int, float | None]:
    """Parse instrument, presence and confidence of `+cello=0.75`; cached, because the same words recur."""
    name, equals, confidence = word[1:].partition("=")
    if word[:1] not in _SIGNS or not name or (equals and not _NUMBER.fullmatch(confidence)):
        raise ValueError(f"labels: {word[:MAX_DIGITS]!r} is no +instrument or -instrument")
    return name, _SIGNS[word[0]], json.loads(confidence) if equals else None


def _pack_audio(audio: Mapping[str, Any]) -> Any:
    try:
        values = [audio[name] for name in AUDIO_FIELDS]
    except KeyError:  # not all of them: it stands as it is
        return audio
    for index, digits in enumerate(_HEX_DIGITS):
        text = values[index]
        if isinstance(text, str) and len(text) == digits and _HEX.fullmatch(text):
            values[index] = base64.urlsafe_b64encode(bytes.fromhex(text)).decode().rstrip("=")
    if len(audio) == len(values):
        return values
    return [*values, {name: value for name, value in audio.items() if name not in AUDIO_FIELDS}]


def _unpack_audio(packed: Any) -> Any:
    if isinstance(packed, dict):  # as it was
        return packed
    if not isinstance(packed, list) or len(packed) not in (len(AUDIO_FIELDS), len(AUDIO_FIELDS) + 1):
        raise ValueError(f"audio: expected the {len(AUDIO_FIELDS)} values {', '.join(AUDIO_FIELDS)}")
    *values, others = packed if len(packed) > len(AUDIO_FIELDS) else [*packed, {}]
    if not isinstance(others, dict):
        raise ValueError("audio: what follows its values is no object")
    for index, (length, padding) in enumerate(_TEXTS):
        text = values[index]
        if type(text) is str and len(text) == length:
            standard = text.replace("-", "+").replace("_", "/") + padding
            values[index] = binascii.a2b_base64(standard, strict_mode=True).hex()
    audio = dict(zip(AUDIO_FIELDS, values, strict=True))
    return audio | others if others else audio
