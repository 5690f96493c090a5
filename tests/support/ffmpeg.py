"""The ffmpeg binary as an independent decoder and as a writer of files; skips the test where there is none."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray


def find_ffmpeg() -> str:
    """Find the binary: that of PyPI, which `make setup` installs, or the system's."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        found = shutil.which("ffmpeg")
    if found is None:
        pytest.skip("needs an ffmpeg binary")
    return found


def run_ffmpeg(*arguments: object, content: bytes = b"") -> bytes:
    """Run ffmpeg with arguments; return what it wrote to `pipe:1`."""
    command = [find_ffmpeg(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    if content:
        command.remove("-nostdin")
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


def decoded_by_ffmpeg(path: Path, *, num_channels: int, options: tuple[str, ...] = ()) -> NDArray[np.float32]:
    """Decode the audio of a file as ffmpeg does, placed by its timestamps: float32 (num_channels, num_samples).

    Args:
        path: the file.
        num_channels: of the file.
        options: of the input, such as ("-ss", "4").
    """
    filters = ("-af", "aresample=async=1:min_hard_comp=0.001:first_pts=0")  # silence where the container has a hole
    written = run_ffmpeg(*options, "-i", path, "-map", "0:a:0", *filters, "-f", "f32le", "pipe:1")
    return np.frombuffer(written, np.float32).reshape(-1, num_channels).T
