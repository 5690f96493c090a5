"""Files of every container: three seconds of stereo noise, as ffmpeg and libsndfile write them."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import signals
from ffmpeg import run_ffmpeg

SECONDS, RATE = 3, 44_100
NUM_SAMPLES = SECONDS * RATE

BY_LIBSNDFILE = {
    "wav": ("WAV", "PCM_16"),
    "wav 24 bit": ("WAV", "PCM_24"),
    "wav extensible": ("WAVEX", "FLOAT"),
    "wav mu-law": ("WAV", "ULAW"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "aiff float": ("AIFF", "FLOAT"),
    "au": ("AU", "PCM_16"),
    "au mu-law": ("AU", "ULAW"),
    "caf": ("CAF", "PCM_16"),
    "caf alac": ("CAF", "ALAC_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg vorbis": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
BY_FFMPEG = {
    "ffmpeg wav": "-f wav",
    "ffmpeg rf64": "-rf64 always -f wav",
    "ffmpeg aiff": "-f aiff",
    "ffmpeg aifc mu-law": "-c:a pcm_mulaw -f aiff",
    "ffmpeg flac": "-f flac",
    "ffmpeg ogg opus": "-c:a libopus -ar 48000 -f ogg",
    "ffmpeg ogg flac": "-c:a flac -f ogg",
    "ffmpeg mp3": "-c:a libmp3lame -f mp3",
    "ffmpeg mp3 vbr": "-c:a libmp3lame -q:a 4 -f mp3",
    "ffmpeg mp3 22 kHz": "-c:a libmp3lame -ar 22050 -ac 1 -f mp3",
    "ffmpeg mp3 without xing": "-c:a libmp3lame -write_xing 0 -f mp3",
    "ffmpeg m4a": "-c:a aac -f ipod",
    "ffmpeg m4a alac": "-c:a alac -f ipod",
    "ffmpeg mp4 faststart": "-c:a aac -movflags faststart -f mp4",
    "ffmpeg mp4 fragments": "-c:a aac -movflags frag_keyframe+empty_moov -frag_duration 500000 -f mp4",
    "ffmpeg mp4 dash": "-c:a aac -movflags dash+global_sidx -frag_duration 500000 -f mp4",
    "ffmpeg mov": "-c:a pcm_s16le -f mov",
    "ffmpeg webm": "-c:a libopus -ar 48000 -f webm",
    "ffmpeg mkv": "-c:a flac -cluster_time_limit 500 -f matroska",
}
PIPED = {f"piped {form}": f"-f {form}" for form in ("wav", "aiff", "au", "caf", "flac", "w64")} | {
    "piped rf64": "-rf64 always -f wav",
    "piped ogg opus": "-c:a libopus -ar 48000 -f ogg",
    "piped mp3": "-c:a libmp3lame -f mp3",
    "piped webm": "-c:a libopus -ar 48000 -f webm -live 1",
}
NAMES = (*BY_LIBSNDFILE, *BY_FFMPEG, *PIPED)


@cache
def made(name: str) -> bytes:
    """The file of a name; skips the test where there is no ffmpeg to write it."""
    noise = signals.noise(float(SECONDS), sample_rate=RATE, num_channels=2)
    if name in BY_LIBSNDFILE:
        kind, subtype = BY_LIBSNDFILE[name]
        return signals.encoded(noise, sample_rate=RATE, kind=kind, subtype=subtype)
    source = ("-i", "pipe:0")
    wav = signals.encoded(noise, sample_rate=RATE)
    if name in PIPED:
        return run_ffmpeg(*source, *PIPED[name].split(), "pipe:1", content=wav)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        run_ffmpeg(*source, *BY_FFMPEG[name].split(), path, content=wav)
        return path.read_bytes()


def num_decoded(data: bytes, folder: Path, *options: str) -> int:
    """Samples per channel that ffmpeg decodes of a file, told its demuxer where the beginning misleads it."""
    path = folder / "file"
    path.write_bytes(data)
    return len(run_ffmpeg(*options, "-i", path, "-map", "0:a:0", "-ac", "1", "-f", "s16le", "pipe:1")) // 2
