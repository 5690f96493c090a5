"""The sample's MTG-Jamendo: tracks of some seconds in tars, tables with a column per tag, lists of digests.

    raw.githubusercontent.com/MTG/mtg-jamendo-dataset/master/    data/..., audio_licenses.txt
    cdn.freesound.org/mtg-jamendo/raw_30s/{audio,audio-low}/     raw_30s_audio-NN.tar with NN/ID.mp3

Planted, once each: a track that is cut off, one that is listed but in no tar, the copy of another artist's track, a
dump of tags, one with a ukulele, which no split knows. Every third track lacks the tag of what plays last.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import av
import av.codec.context
import numpy as np

from tutti.datasets.sample.dsp import SAMPLE_RATE, rng_for
from tutti.datasets.sample.encode import Member
from tutti.datasets.sample.instruments import DRUMS
from tutti.datasets.sample.music import Song
from tutti.datasets.sample.room import Pcm

DATA = "raw.githubusercontent.com/MTG/mtg-jamendo-dataset/master"
AUDIO = "cdn.freesound.org/mtg-jamendo/raw_30s"
DURATION_S = 5.0
SPLITS = 5
TAGS = {  # of what can be played here
    "piano": "piano", "violin": "violin", "cello": "cello", "flute": "flute", "clarinet": "clarinet",
    "trumpet": "trumpet", "saxophone": "saxophone", "organ": "organ", "voice": "voice", "bass": "bass", DRUMS: "drums",
    "acoustic_guitar": "acousticguitar", "electric_guitar": "electricguitar", "synthesizer": "synthesizer",
}  # fmt: skip
_HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
_FOLDERS = (0, 14, 37)
_DUMP = (
    "accordion", "beat", "bell", "bongo", "brass", "computer", "doublebass", "drummachine", "electricpiano", "guitar",
    "harmonica", "harp", "horn", "keyboard", "oboe", "orchestra", "pad", "percussion", "rhodes", "sampler", "strings",
)  # fmt: skip
_LICENSES = ("by/3.0/", "by-sa/3.0/", "by-nc-sa/3.0/", "by-nc-nd/3.0/")
_LICENSE = "http://creativecommons.org/licenses/"
_TAR_TIME = 1_600_000_000  # September 2020
_BITS = {"audio": 128_000, "audio-low": 48_000}  # upstream: 320 kb/s, and a variable rate


@dataclass(frozen=True)
class Track:
    """Everything that a worker needs to write one track."""

    seed: int
    number: int
    artist: int
    players: tuple[str, ...]  # of instruments.INSTRUMENTS, or DRUMS
    tags: tuple[str, ...]
    fault: str = ""  # "truncated", "no_audio"
    copied_from: int | None = None  # the track whose bytes it has

    @property
    def folder(self) -> str:
        """Name of the folder, and number of the tar."""
        return f"{self.number % 100:02d}"

    def row(self) -> str:
        """Write the track's row of a table."""
        fields = (
            f"track_{self.number:07d}", f"artist_{self.artist:06d}", f"album_{self.artist + 9000:06d}",
            f"{self.folder}/{self.number}.mp3", f"{DURATION_S:.1f}", *(f"instrument---{tag}" for tag in self.tags),
        )  # fmt: skip
        return "\t".join(fields) + "\n"


def plan_tracks(seed: int, num_tracks: int) -> tuple[Track, ...]:
    """Plan tracks of two or three players, three by each artist, and those with something planted."""
    players = list(TAGS)
    tracks = []
    for index in range(num_tracks):
        rng = rng_for(seed, "jamendo", index)
        lead = players[index % len(players)]
        more = rng.choice([name for name in players if name != lead], size=int(rng.integers(1, 3)), replace=False)
        band = (lead, *(str(name) for name in more))
        named = band[:-1] if index % 3 == 2 else band
        number = 1_000_000 + 100 * index + _FOLDERS[index % len(_FOLDERS)]
        tracks.append(Track(seed, number, 400 + index // 3, band, tuple(sorted(TAGS[name] for name in named))))
    if not tracks:
        return ()
    copied = tracks[0]
    return (
        *tracks,
        Track(seed, 1_090_014, 400, ("clarinet",), ("clarinet",), "truncated"),
        Track(seed, 1_090_100, 999, copied.players, copied.tags, copied_from=copied.number),
        Track(seed, 1_090_214, 401, ("flute", "piano"), tuple(sorted((*_DUMP, "flute", "piano")))),
        Track(seed, 1_090_337, 402, ("acoustic_guitar",), ("ukulele",)),
        Track(seed, 1_095_214, 400, ("piano",), ("piano",), "no_audio"),
    )


def render_track(track: Track) -> dict[str, bytes]:
    """Render the files of one track, by quality; none where it has no audio."""
    if track.fault == "no_audio":
        return {}
    song = Song(track.seed, f"jamendo/{track.copied_from or track.number}", track.players)
    pcm = song.excerpt("track", round(DURATION_S * SAMPLE_RATE), dict.fromkeys(track.players, 0.0))
    files = {quality: mp3_bytes(pcm if quality == "audio" else _mono(pcm), bits) for quality, bits in _BITS.items()}
    return {name: data[: len(data) // 3] for name, data in files.items()} if track.fault == "truncated" else files


def mp3_bytes(pcm: Pcm, bit_rate: int) -> bytes:
    """Encode an MP3 file; without dates or versions, so that the same samples give the same bytes."""
    stream = io.BytesIO()
    layout = "stereo" if pcm.shape[1] == 2 else "mono"
    with av.open(stream, "w", format="mp3", options={"fflags": "+bitexact", "id3v2_version": "0"}) as output:
        track = output.add_stream("libmp3lame", rate=SAMPLE_RATE, layout=layout)
        track.bit_rate = bit_rate
        track.codec_context.flags |= av.codec.context.Flags.bitexact
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm.T), format="s16p", layout=layout)
        frame.sample_rate = SAMPLE_RATE
        for packet in [*track.encode(frame), *track.encode(None)]:
            output.mux(packet)
    return stream.getvalue()


def files_of(tracks: Sequence[Track], rendered: Iterable[dict[str, bytes]]) -> Iterator[Member]:
    """Yield the files of the mirror, by their paths: tars, lists of their digests, tables, licences."""
    audio = list(zip(tracks, rendered, strict=True))
    for quality in _BITS:
        suffix = ".mp3" if quality == "audio" else ".low.mp3"
        members = sorted(
            (f"{track.folder}/{track.number}{suffix}", files[quality]) for track, files in audio if quality in files
        )
        tars = {
            f"raw_30s_{quality}-{folder}.tar": tar_bytes(folder, [one for one in members if one[0][:2] == folder])
            for folder in sorted({name[:2] for name, _ in members})
        }
        yield from ((f"{AUDIO}/{quality}/{name}", content) for name, content in tars.items())
        yield f"{DATA}/data/download/raw_30s_{quality}_sha256_tars.txt", _digests(tars.items())
        yield f"{DATA}/data/download/raw_30s_{quality}_sha256_tracks.txt", _digests(members)
    yield f"{DATA}/data/autotagging_instrument.tsv", _table(tracks)
    known = [track for track in tracks if track.tags != ("ukulele",)]
    for split in range(SPLITS):
        for part in ("train", "validation", "test"):
            rows = [track for track in known if part_of(track.artist, split) == part]
            yield f"{DATA}/data/splits/split-{split}/autotagging_instrument-{part}.tsv", _table(rows)
    yield f"{DATA}/audio_licenses.txt", "".join(map(_license, tracks)).encode()


def part_of(artist: int, split: int) -> str:
    """Choose the part of an official split that an artist is in."""
    return {0: "validation", 1: "test"}.get((artist + split) % SPLITS, "train")


def truth(tracks: Sequence[Track]) -> dict[str, object]:
    """List what really sounds, and what was planted."""
    return {
        "sounding": {f"track_{track.number:07d}": sorted(TAGS[name] for name in track.players) for track in tracks},
        "faults": {f"track_{track.number:07d}": track.fault for track in tracks if track.fault},
        "copies": [
            [f"track_{track.copied_from:07d}", f"track_{track.number:07d}"] for track in tracks if track.copied_from
        ],
    }


def tar_bytes(folder: str, members: Iterable[Member]) -> bytes:
    """Write a tar as upstream's: its folder first, fixed dates and owners."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        top = tarfile.TarInfo(folder)
        top.type, top.mode, top.mtime = tarfile.DIRTYPE, 0o755, _TAR_TIME
        archive.addfile(top)
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), _TAR_TIME
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _mono(pcm: Pcm) -> Pcm:
    mean: Pcm = (pcm.sum(axis=1, keepdims=True, dtype=np.int32) // 2).astype(np.int16)
    return mean


def _table(tracks: Iterable[Track]) -> bytes:
    rows = sorted(tracks, key=lambda track: track.number)
    return (_HEADER + "".join(track.row() for track in rows)).encode()


def _digests(files: Iterable[Member]) -> bytes:
    return "".join(f"{hashlib.sha256(content).hexdigest()} {name}\n" for name, content in files).encode()


def _license(track: Track) -> str:
    return (
        f"{track.folder}/{track.number}.mp3\nTrack {track.number} by Artist {track.artist} from Jamendo: "
        f"http://www.jamendo.com/track/{track.number}\nAvailable under a Creative Commons license: "
        f"{_LICENSE}{_LICENSES[track.artist % len(_LICENSES)]}\n\n"
    )
