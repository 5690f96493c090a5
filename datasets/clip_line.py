"""A clip's row as one line of a manifest: nothing is lost, and 200,000 of them stay small enough for git.

    line = encode(row)      a line of clips/00.jsonl, without its line feed
    row = decode(line)      the row again, all fields by name

What the id and the audio say already is left out (source, recording, group, start, end), digests are base64url, what
was measured of the audio is a list in the order of `AUDIO_FIELDS`, and labels are words by origin:

    "labels": {"crowd": "+cello=0.754682 -organ=0.094666", "human": "+voice -piano"}

A value that does not fit such a form stands as it is, so every row has exactly one line, and fields
that a later version adds simply stand there by name.
"""

import base64
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

ClipRow: TypeAlias = dict[str, Any]

AUDIO_FIELDS = (
    "pcm_sha256", "native_sha256", "source_sha256", "sketch", "sample_rate", "num_samples", "native_sample_rate",
    "codec", "decoder", "loudness_lufs", "gain_db", "true_peak_dbtp", "silence_share",
)  # fmt: skip
DIGEST_DIGITS = 32  # of native_sha256 and source_sha256: their first 128 bits, enough to tell any two files apart

_HEX_DIGITS = (64, DIGEST_DIGITS, DIGEST_DIGITS, 16)  # of the first AUDIO_FIELDS
_TEXT_LENGTHS = tuple((digits * 4 + 5) // 6 for digits in _HEX_DIGITS)  # the same as base64
_HEX = re.compile(r"[0-9a-f]+")
_ID = re.compile(r"([^/]*)/(.*)@([0-9]+)", re.DOTALL)
_NAME = re.compile(r"[^\s=]+")
_SIGNS = {"+": 1, "-": 0}
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def encode(row: Mapping[str, Any]) -> str:
    """The line of a row."""
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


def decode(line: str | bytes) -> ClipRow:
    """The row of a line.

    Raises:
        ValueError: it is no line that `encode` writes; the message says why.
    """
    try:
        fields = json.loads(line)
    except ValueError as error:  # also bytes that are not UTF-8
        raise ValueError(f"not a JSON line ({error})") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("id"), str):
        raise ValueError("not a clip row: needs an id")
    if not _implied(fields["id"]):
        raise ValueError(f"not a clip row: its id is {fields['id']!r}, not source/key@start_ms")
    labels, audio = fields.pop("labels", {}), fields.pop("audio", None)
    row: ClipRow = {**_implied(fields["id"]), "status": "kept", **fields, "labels": _unpack_labels(labels)}
    if audio is not None:
        row["audio"] = _unpack_audio(audio)
        end_s = row.setdefault("end_s", _implied_end(row))
        if end_s is None:
            del row["end_s"]
    return row


def _same(value: Any, implied: Any) -> bool:
    return type(value) is type(implied) and value == implied


def _implied(clip_id: str) -> dict[str, Any]:
    """What an id says: `source/key@start_ms`."""
    found = _ID.fullmatch(clip_id)
    if found is None:
        return {}
    source, key, start_ms = found.groups()
    return {"source": source, "recording": key, "group": f"{source}/{key}", "start_s": int(start_ms) / 1000}


def _implied_end(row: Mapping[str, Any]) -> float | None:
    """Where a clip ends that is as long as its stored audio."""
    audio, start_s = row["audio"], row.get("start_s")
    numbers = (start_s, audio.get("num_samples"), audio.get("sample_rate")) if isinstance(audio, dict) else ()
    if not numbers or not all(type(number) in (int, float) for number in numbers) or not audio["sample_rate"]:
        return None
    return round(float(start_s + audio["num_samples"] / audio["sample_rate"]), 6)


def _pack_labels(labels: Any) -> Any:
    if not all(_fits(name, label) for name, label in labels.items()):
        return labels
    words = defaultdict(list)
    for name, (presence, confidence, origin) in sorted(labels.items()):
        sure = "" if confidence is None else f"={_ENCODER.encode(confidence)}"
        words[origin].append(f"{'+' if presence else '-'}{name}{sure}")
    return {origin: " ".join(found) for origin, found in words.items()}


def _fits(name: str, label: Any) -> bool:
    if not isinstance(label, (list, tuple)) or len(label) != 3:
        return False
    presence, confidence, origin = label
    return (
        _NAME.fullmatch(name) is not None
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
            name, equals, confidence = word[1:].partition("=")
            if word[:1] not in _SIGNS or not name or name in labels:
                raise ValueError(f"labels: {word!r} is no +instrument or -instrument, or stands twice")
            labels[name] = [_SIGNS[word[0]], json.loads(confidence) if equals else None, key]
    return labels


def _pack_audio(audio: Mapping[str, Any]) -> Any:
    if not all(name in audio for name in AUDIO_FIELDS):
        return audio
    values = [audio[name] for name in AUDIO_FIELDS]
    for index, digits in enumerate(_HEX_DIGITS):
        text = values[index]
        if isinstance(text, str) and len(text) == digits and _HEX.fullmatch(text):
            values[index] = base64.urlsafe_b64encode(bytes.fromhex(text)).decode().rstrip("=")
    others = {name: value for name, value in audio.items() if name not in AUDIO_FIELDS}
    return [*values, others] if others else values


def _unpack_audio(packed: Any) -> Any:
    if isinstance(packed, dict):  # as it was
        return packed
    if not isinstance(packed, list) or len(packed) not in (len(AUDIO_FIELDS), len(AUDIO_FIELDS) + 1):
        raise ValueError(f"audio: expected the {len(AUDIO_FIELDS)} values {', '.join(AUDIO_FIELDS)}")
    *values, others = packed if len(packed) > len(AUDIO_FIELDS) else [*packed, {}]
    for index, (digits, length) in enumerate(zip(_HEX_DIGITS, _TEXT_LENGTHS, strict=True)):
        text = values[index]
        if isinstance(text, str) and len(text) == length and length != digits:
            values[index] = base64.b64decode(text + "=" * (-length % 4), altchars=b"-_", validate=True).hex()
    return dict(zip(AUDIO_FIELDS, values, strict=True)) | others
