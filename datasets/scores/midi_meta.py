"""Check meta events of a Standard MIDI File against RP-001: what is odd about one costs no note, but is counted."""

PORT, TEMPO = 0x21, 0x51
_SEQUENCE_NUMBER, _CHANNEL, _END_OF_TRACK, _OFFSET, _TIME, _KEY = 0x00, 0x20, 0x2F, 0x54, 0x58, 0x59
_SIZES = {_SEQUENCE_NUMBER: 2, _CHANNEL: 1, PORT: 1, _END_OF_TRACK: 0, TEMPO: 3, _OFFSET: 5, _TIME: 4, _KEY: 2}
_OFFSET_ENDS = (24, 60, 60, 30, 100)  # hours, minutes, seconds, frames, hundredths
_MAX_DENOMINATOR = 7  # as a power of two: no music is in 128ths of a note, and none in more


def is_odd_meta(kind: int, size: int, content: bytes) -> bool:
    """Whether a meta event has a length or a value that the standard does not know.

    Args:
        kind: its type.
        size: its length in bytes.
        content: the first of them, 8 at most.
    """
    if kind >= 0x80:
        return True
    if kind not in _SIZES or (kind == _SEQUENCE_NUMBER and size == 0):
        return False
    if size != _SIZES[kind]:
        return True
    if kind == _KEY:
        return not (content[0] <= 7 or content[0] >= 256 - 7) or content[1] > 1
    if kind == _TIME:
        return content[0] == 0 or content[1] > _MAX_DENOMINATOR
    if kind == _OFFSET:
        hours, *rest = content
        return hours & 0x80 != 0 or any(
            v >= n for v, n in zip((hours & 0x1F, *rest), (24, 60, 60, 30, 100), strict=True)
        )
    if kind == _CHANNEL:
        return content[0] > 15
    if kind == PORT:
        return content[0] > 127
    return kind == TEMPO and not any(content)


def utf8_end(data: bytes, at: int, num_characters: int, limit: int) -> int | None:
    """Compute where a text of so many characters of UTF-8 ends, from `at` on; None where it is no such text."""
    end, left = at, num_characters
    while left and end < limit:
        byte = data[end]
        end += 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        left -= 1
    if left or end > limit or end == at + num_characters:
        return None
    try:
        text = data[at:end].decode("utf-8")
    except UnicodeDecodeError:
        return None
    return end if all(letter.isprintable() or letter.isspace() for letter in text) else None
