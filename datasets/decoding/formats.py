"""Formats that are read, by the suffixes that are looked for: their decoder, and how the end of each is verified."""

from typing import NamedTuple


class Format(NamedTuple):
    """One family of files. Its members are known by their first bytes, never by their names."""

    name: str
    suffixes: str  # that are looked for in folders; a file that a list names may have any
    decoder: str  # the first one; a second one reads what libsndfile refuses or cannot read further
    end: str  # how a file is found to be complete


FORMATS = (
    Format("WAV, RIFX, RF64, BW64", ".wav", "libsndfile", "size of `data`, where it is plausible"),
    Format("Wave64", ".w64", "libsndfile", "size of `data`, where it is plausible"),
    Format("AIFF, AIFC", ".aif .aiff .aifc", "libsndfile", "number of frames in `COMM`"),
    Format("AU", ".au", "libsndfile", "size in the header, where it is plausible"),
    Format("CAF", ".caf", "libsndfile", "size of `data`, or the packet table"),
    Format("FLAC", ".flac", "libsndfile", "samples in STREAMINFO; checksums of frames"),
    Format("MP3, MP2", ".mp3 .mp2", "libsndfile", "frames in a Xing, Info or VBRI header; without one: not declared"),
    Format("Ogg: Vorbis, Opus, FLAC", ".ogg .oga .opus", "libsndfile", "last page; positions, numbers, checksums"),
    Format("Matroska, WebM", ".webm .mka .mkv", "FFmpeg", "size of the last cluster; checksums of clusters"),
    Format("MP4, M4A, 3GP, QuickTime", ".m4a .mp4 .mov .3gp", "FFmpeg", "places of all samples; fragments' index"),
    Format("ADTS (AAC)", ".aac", "FFmpeg", "not declared"),
    Format("True Audio", ".tta", "FFmpeg", "length in the header"),
    Format("ASF (WMA)", ".wma", "FFmpeg", "not declared"),
    Format("AC-3, AVI, FLV, MPEG-TS, AMR, WavPack, ...", "", "FFmpeg", "not declared, or a length in the header"),
)  # fmt: skip


def formats_text() -> str:
    """Write the table of formats, for a terminal."""
    header = Format("format", "suffixes", "decoder", "complete by")
    widths = [max(len(row[place]) for row in (header, *FORMATS)) for place in range(3)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row.end])
        for row in (header, *FORMATS)
    ]
    rules = (
        "Samples are placed by the clock of their container, with silence in its gaps (gap_s). What is lost or\n"
        "damaged costs the clips that it touches (damaged, truncated), no others. Of several tracks the default one\n"
        "is read."
    )
    return "\n".join([*(line.rstrip() for line in lines), "", rules])
