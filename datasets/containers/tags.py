"""Tags that stand before and behind the sound: ID3v2 (id3.org), ID3v1, APE, Lyrics3."""

import re

_MOST_TAGS = 16
_NO_SOUND = re.compile(rb"[^\0]")


def skip_leading_tags(data: bytes, position: int = 0) -> int:
    """Find the first byte that belongs to no ID3v2 tag: its size stands in four bytes of seven bits."""
    for _ in range(_MOST_TAGS):
        header = data[position : position + 10]
        if len(header) < 10 or header[:3] != b"ID3" or max(header[6:]) > 127:
            break
        size = header[6] << 21 | header[7] << 14 | header[8] << 7 | header[9]
        position += 10 + size + (10 if header[5] & 0x10 else 0)
    return position


def skip_zeros(data: bytes, position: int) -> int:
    """Find the first byte that is not 0 from a place on."""
    found = _NO_SOUND.search(data, position)
    return len(data) if found is None else found.start()


def end_of_sound(data: bytes, start: int = 0) -> int:
    """Find the end of the file without the tags that stand behind the sound."""
    end = len(data)
    for _ in range(_MOST_TAGS):
        if end - 128 >= start and data[end - 128 : end - 125] == b"TAG":
            end -= 128
            if end - 227 >= start and data[end - 227 : end - 223] == b"TAG+":
                end -= 227
        elif end - 32 >= start and data[end - 32 : end - 24] == b"APETAGEX":
            size = int.from_bytes(data[end - 20 : end - 16], "little")
            has_header = data[end - 9] & 0x80  # the highest bit of the flags
            end = max(start, end - size - (32 if has_header else 0)) if 32 <= size <= end - start else end - 32
        elif end - 15 >= start and data[end - 9 : end] == b"LYRICS200" and data[end - 15 : end - 9].isdigit():
            end = max(start, end - 15 - int(data[end - 15 : end - 9]))
        elif end - 10 >= start and data[end - 10 : end - 7] == b"3DI":  # ID3v2.4 behind the sound
            size = data[end - 4] << 21 | data[end - 3] << 14 | data[end - 2] << 7 | data[end - 1]
            end = max(start, end - 20 - size)
        else:
            break
    return end
