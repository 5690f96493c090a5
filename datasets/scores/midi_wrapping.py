"""Find a Standard MIDI File in what is wrapped around it, or name what a file without one is."""

HEADER_WITHIN = 1 << 16  # bytes: MacBinary puts 128 before the header, tags a little more

_KINDS = (
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"\x1f\x8b", "packed with gzip; unpack it"),
    (b"SMF2CLIP", "a MIDI 2.0 clip; export it as a Standard MIDI File"),
    (b"ID3", "an MP3"),
    (b"OggS", "Ogg audio"),
    (b"fLaC", "FLAC audio"),
    (b"RIFF", "a RIFF file without MIDI, a WAV perhaps"),
    (b"FORM", "an IFF file, AIFF or XMI perhaps"),
    (b"\x00\x05\x16\x07", "AppleDouble, which macOS writes beside a file; remove it"),
    (b"<?xml", "XML, MusicXML perhaps; export it as MIDI"),
    (b"<", "a web page, no file"),
    (b"version https://git-lfs", "a pointer of Git LFS; run `git lfs pull`"),
)


def locate_midi(data: bytes) -> tuple[int, int, int]:
    """Locate a MIDI file: its first byte, its end, and how much was amiss around it; (-1, 0, 0): there is none.

    RMID is RIFF with the file in a chunk `data`; sounds (DLS) and texts may stand beside it (RP-029).
    """
    if data.startswith(b"RIFF") and data[8:12] == b"RMID":
        at = 12
        while at + 8 <= len(data):
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            if data.startswith(b"data", at) and data.startswith(b"MThd", at + 8):
                fits = 0 < size <= len(data) - at - 8
                return at + 8, at + 8 + size if fits else len(data), int(not fits)
            at += 8 + size + size % 2
    begin = data.find(b"MThd", 0, HEADER_WITHIN)
    return (-1, 0, 0) if begin < 0 else (begin, len(data), int(begin > 0))


def described(data: bytes) -> str:
    """Describe a file without a MIDI header: what it is by its first bytes, and the remedy where there is one."""
    if not data.strip(b"\0"):
        return f"it has {len(data):,} bytes, all of them zero" if data else "it is empty"
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return next((f"it is {words}" for magic, words in _KINDS if head.startswith(magic)), "it has no header MThd")
