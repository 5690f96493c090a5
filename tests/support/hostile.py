"""Media that nobody should trust: what claims too much, names other files, or is something else."""

import struct

import numpy as np
import signals


def rf64(num_bytes: int, num_frames: int) -> bytes:
    """A WAV with 64-bit sizes (EBU Tech 3306), whatever they claim."""
    ds64 = struct.pack("<4sIQQQI", b"ds64", 28, num_bytes + 72, num_bytes, num_frames, 0)
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    return b"RF64\xff\xff\xff\xffWAVE" + ds64 + fmt + b"data\xff\xff\xff\xff" + bytes(3_200)


def ima_adpcm(**fields: int) -> bytes:
    """An IMA-ADPCM WAV whose `fmt ` chunk says something else: channels, block_align, samples_per_block."""
    data = bytearray(signals.encoded(signals.noise(0.5, num_channels=2), subtype="IMA_ADPCM"))
    at = data.index(b"fmt ") + 8
    for name, value in fields.items():
        offset = {"channels": 2, "block_align": 12, "bits": 14, "samples_per_block": 18}[name]
        data[at + offset : at + offset + 2] = struct.pack("<H", value)
    return bytes(data)


def not_finite(value: float) -> bytes:
    """A float WAV with one sample that is no number."""
    waveform = signals.sine(0.1)
    waveform[0, 5] = np.float32(value)
    return signals.encoded(waveform, subtype="FLOAT")


def playlist(url: str) -> bytes:
    """An HLS playlist that names another file."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n".encode()


def id3(size: int) -> bytes:
    """An ID3v2 header (id3.org): the size in four bytes of seven bits."""
    return b"ID3\x04\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))


def m4a_with_external_data(path: str) -> bytes:
    """An M4A whose samples lie in another file: its data reference is a Macintosh alias with an absolute path."""
    data = signals.m4a(signals.sine(1.0))
    location = b":" + path.encode().replace(b"/", b":")  # an alias writes paths with colons
    location += b"\0" * (len(location) % 2)
    alias = struct.pack(">10xB27s12xB63s16xHH16x", 1, b"v", 1, b"f", 1, 1)
    alias += struct.pack(">HH", 2, len(location)) + location + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    at = data.index(b"url \0\0\0\x01") - 4
    grown = bytearray(data[:at] + entry + data[at + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = grown.rindex(box, 0, at) - 4
        size = int.from_bytes(grown[start : start + 4], "big") + len(entry) - 12
        grown[start : start + 4] = size.to_bytes(4, "big")
    return bytes(grown)


def webm_that_claims(element: bytes, size: int) -> bytes:
    """A WebM one of whose elements (RFC 8794) claims a size of 56 bits."""
    data = signals.webm(signals.sine(1.0, sample_rate=48_000))
    at = data.index(element) + len(element)
    length = 9 - data[at].bit_length()
    return data[:at] + (size | 1 << 56).to_bytes(8, "big") + data[at + length :]
