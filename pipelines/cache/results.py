"""Encoding of the stages' results: each carries its own digest, and has the shape of its stage.

    {"sha256":"<64 hex digits>","result":<canonical JSON>}

The digest is over stage, key and result, so a flipped bit is seen, and so is a result that was copied under another
name. It is no signature: whoever can write to a cache can also seal what they write. So a result is typed when it is
read, and no value of it leads out of the cache, or is a number that nothing can be.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from tutti.datasets import typed_json
from tutti.datasets.manifest import canonical_json
from tutti.datasets.typed_json import MAX_INTEGER, Amount, Between, Count, Digest, Object, Positive, Share, Text, Word

MAX_BYTES = 16 << 20  # of a result; the longest, notes of a score that no soundfont plays, have some megabytes

_HEAD, _MIDDLE, _TAIL = b'{"sha256":"', b'","result":', b"}"
_BODY = len(_HEAD) + 64 + len(_MIDDLE)


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
    return stage not in SHAPES or typed_json.fits(SHAPES[stage], result)


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

_AUDIO = Object(  # of datasets.record.StoredAudio
    {
        "blob": Digest,
        "pcm_sha256": Digest,
        "native_sha256": Digest,
        "source_sha256": Digest,
        "sample_rate": Positive,
        "num_samples": Count,
        "native_sample_rate": Positive,
        "native_num_samples": Count,
        "num_channels": Positive,
        "codec": Text,
        "decoder": Text,
        "silence_share": Share,
        "loudness_lufs": float | None,
        "gain_db": float,
        "true_peak_dbtp": float | None,
        "complete": bool,
    },
    {
        "mean_amplitude": (Amount, None),
        "sketch": Annotated[str, re.compile(r"[0-9a-f]{16}").fullmatch],
        "clipped_share": (Share, None),
        "bit_rate": (Count, None),
        "active": (tuple[tuple[Amount, Amount], ...], None),
        "flatness": (Share, None),
        "stored_silence_share": Share,
        "cancelled_db": float | None,
        "spike_db": float | None,
        "gap_s": Amount,
        "damaged_s": Amount,
    },
)
_ALIGNMENT = Object({"delay_s": float, "score": Annotated[float, Between(-1.001, 1.001)]})
_PROGRAM, _MIDI = Annotated[int, Between(0, 128)], Annotated[int, Between(0, 127)]
_NOTE = tuple[float, float, _MIDI, _PROGRAM, Text | None, Annotated[int, Between(1, 127)]]  # type: ignore[valid-type]
_STATUS = Annotated[int, Between(-MAX_INTEGER, 1 << 66)]  # a number of os.stat
_BLOB = Object({"blob": Digest})
_FETCHED = Object({"sha256": Digest}, {"url": Text})

SHAPES: Mapping[str, Any] = {
    "download": _FETCHED,
    "first_use": _FETCHED,
    "gunzip": Object({"sha256": Digest, "num_bytes": Count}),
    "sample": Object({"sha256": Digest}),
    "own": Object({"look": tuple[_STATUS, _STATUS, _STATUS, _STATUS, _STATUS], "sha256": Digest, "num_bytes": Count}),
    "own_length": Object({"duration_s": Amount}),
    "tar_member": _FETCHED,
    "tar_index": Object(  # of acquisition.tars: what a server said of a tar, and where its members lie
        {
            "etag": Text | None,
            "last_modified": Text | None,
            "length": Count | None,
            "members": tuple[tuple[Text, Count, Count], ...],
            "end": Count,
            "whole": bool,
        }
    ),
    "prepare": (
        Object({"audio": _AUDIO}, {"alignment": _ALIGNMENT}),
        Object({"reason": Word, "detail": Text}, {"value": float | None}),
    ),
    "fidelity": Object({"bandwidth_hz": Amount, "noise_floor_db": float}),
    "embed": _BLOB,
    "fingerprint": _BLOB,
    "render": Object({"blob": Digest, "silent": tuple[_NOTE, ...]}),
    "write": Object(  # of datasets.shard.ShardInfo
        {
            "path": Text,
            "split": Text,
            "num_rows": Count,
            "num_bytes": Count,
            "sha256": Digest,
            "content_sha256": Digest,
        }
    ),
}
