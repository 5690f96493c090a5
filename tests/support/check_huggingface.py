"""Read a dataset version with Hugging Face `datasets`, and decode every clip of it.

    python -I tests/support/check_huggingface.py build/NAME/versions/VERSION

Uses nothing of ours: -I keeps our root off the path. Prints one JSON object:

    splits  from the shards that the manifest lists: rows, feature type and sampling rate of
            `audio`, seconds of audio, and in how many rows the samples are exactly the stored ones
    card    split -> rows, from the folder alone, as its dataset card (README.md) describes it
"""

import hashlib
import importlib.util
import json
import os
import re
import sys
from pathlib import Path


def main(version_folder):
    """Print what Hugging Face makes of a version folder."""
    import datasets

    content = json.loads((version_folder / "manifest" / "manifest.json").read_text(encoding="utf-8"))
    shards = content["shards"]
    splits = {shard["split"] for shard in shards if shard["num_rows"]}  # it cannot load a split without rows
    files = {
        split: [str(version_folder / shard["path"]) for shard in shards if shard["split"] == split] for split in splits
    }
    listed = datasets.load_dataset("parquet", data_files=files)
    described = datasets.load_dataset(str(version_folder))
    result = {
        "datasets": datasets.__version__,
        "splits": {name: report(listed[name]) for name in listed},
        "card": {name: len(described[name]) for name in described},
    }
    print(json.dumps(result, sort_keys=True))


def report(split):
    """Facts of one split, from decoding all of it."""
    feature = split.features["audio"]
    seconds, exact = 0.0, 0
    for row in split:
        samples = row["audio"].get_all_samples()  # .data: float32 (num_channels, num_samples)
        seconds += samples.data.shape[1] / samples.sample_rate
        pcm = (samples.data.numpy() * 32768).round().astype("<i2")
        exact += hashlib.sha256(pcm.tobytes()).hexdigest() == row["audio_sha256"]
    return {
        "rows": len(split),
        "feature": type(feature).__name__,
        "sampling_rate": feature.sampling_rate,
        "seconds": round(seconds, 3),
        "exact": exact,
    }


def find_ffmpeg():
    """Start over with PyAV's FFmpeg libraries on the loader's path, under the names that torchcodec asks for.

    PyAV's wheel for Linux brings them as `libavcodec-<hash>.so.62.28.102`, torchcodec loads
    `libavcodec.so.62`. Elsewhere, or without PyAV, torchcodec uses the FFmpeg of the system.
    """
    spec = importlib.util.find_spec("av")
    bundled = Path(spec.origin).parent.with_name("av.libs") if spec else Path("none")
    links = Path(sys.prefix) / "ffmpeg"
    if not bundled.is_dir() or str(links) in os.environ.get("LD_LIBRARY_PATH", ""):
        return
    links.mkdir(exist_ok=True)
    for library in bundled.iterdir():
        name = re.fullmatch(r"(lib(?:av|sw)\w+)-[0-9a-f]+(\.so\.\d+).*", library.name)
        if name:
            link = links / "".join(name.groups())
            link.unlink(missing_ok=True)
            link.symlink_to(library)
    path = os.pathsep.join([str(links), str(bundled), os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(os.pathsep)
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "LD_LIBRARY_PATH": path})


if __name__ == "__main__":
    find_ffmpeg()
    main(Path(sys.argv[1]).resolve())
