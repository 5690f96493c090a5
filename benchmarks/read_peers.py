"""Read the benchmark's clips with another library, in a process without anything of ours: a part of `benchmarks.read`.

    python -I benchmarks/read_peers.py PEER FOLDER WORKERS WINDOW_SAMPLES [PACKAGES]

-I keeps our root off the path. Prints one JSON object: clips per second of an epoch, and the seconds that preparing the
data took once. Clips are shuffled, decoded with soundfile to int16, cut to random windows, and come as batches of 64 in
float32 with their labels, as a training loop wants them.
"""

import functools
import glob
import importlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

Loader: TypeAlias = Iterable[tuple[Any, Any]]  # waveform (B, T) float32, presence (B, C) int8

BATCH = 64
BUFFER = 512  # clips that a sequential reader shuffles together, as benchmarks.read streams ours


def decoded(audio: bytes, window: int) -> Any:
    """Decode a random window of a complete audio file, int16."""
    import numpy as np
    import soundfile

    samples, _ = soundfile.read(io.BytesIO(audio), dtype="int16")
    first = np.random.randint(len(samples) - window + 1)
    return samples[first : first + window]


def collated(clips: Sequence[tuple[Any, list[int]]]) -> tuple[Any, Any]:
    """Collate a batch from (int16 samples, presence)."""
    import numpy as np
    import torch

    waveform = torch.from_numpy(np.stack([samples for samples, _ in clips])).float() / 32768
    return waveform, torch.tensor([presence for _, presence in clips], dtype=torch.int8)


def tar_clip(sample: dict[str, bytes], window: int) -> tuple[Any, list[int]]:
    """Decode a clip of a WebDataset sample."""
    return decoded(sample["flac"], window), json.loads(sample["json"])["presence"]


def webdataset(folder: str, workers: int, window: int) -> Loader:
    """Read tar shards in sequence, through a shuffle buffer."""
    library: Any = importlib.import_module("webdataset")
    urls = sorted(glob.glob(f"{folder}/tar/*.tar"))
    dataset = library.WebDataset(urls, shardshuffle=len(urls), seed=0)
    dataset = dataset.shuffle(BUFFER).map(functools.partial(tar_clip, window=window))
    dataset = dataset.batched(BATCH, collation_fn=collated)
    loader: Loader = library.WebLoader(dataset, batch_size=None, num_workers=workers)
    return loader


def rows_collated(rows: Sequence[dict[str, Any]], window: int) -> tuple[Any, Any]:
    """Collate a batch from rows of a Hugging Face dataset."""
    return collated([(decoded(row["audio"]["bytes"], window), row["presence"]) for row in rows])


def huggingface(folder: str, workers: int, window: int, streaming: bool = False) -> Loader:
    """Read the Parquet shards: an Arrow table with random access, or in sequence through a shuffle buffer."""
    import torch

    library: Any = importlib.import_module("datasets")
    library.disable_progress_bars()
    files = sorted(glob.glob(f"{folder}/data/train-*.parquet"))
    loaded = library.load_dataset(
        "parquet", data_files=files, split="train", streaming=streaming, cache_dir=tempfile.mkdtemp(dir=folder)
    )
    loaded = loaded.select_columns(["audio", "presence"]).cast_column("audio", library.Audio(decode=False))
    options: dict[str, Any] = {"shuffle": True}
    if streaming:
        loaded, options = loaded.shuffle(seed=0, buffer_size=BUFFER), {}
    collate = functools.partial(rows_collated, window=window)
    return torch.utils.data.DataLoader(loaded, batch_size=BATCH, num_workers=workers, collate_fn=collate, **options)


PEERS: dict[str, Callable[[str, int, int], Loader]] = {
    "webdataset": webdataset,
    "huggingface": huggingface,
    "huggingface_streaming": functools.partial(huggingface, streaming=True),
}


def main() -> None:
    """Time one epoch; imports and the preparation of the data are not in it."""
    if len(sys.argv) == 1:  # `make bench` runs every module: benchmarks.read runs this one
        return
    peer, folder, workers, window, *packages = sys.argv[1:]
    sys.path += packages
    import torch

    torch.set_num_threads(1)
    start_s = time.perf_counter()
    loader = PEERS[peer](folder, int(workers), int(window))
    ready_s, ready_cpu_s = time.perf_counter(), sum(os.times()[:4])
    clips = sum(len(presence) for _, presence in loader)
    seconds, cpu_s = time.perf_counter() - ready_s, sum(os.times()[:4]) - ready_cpu_s
    result = {"clips": clips, "clips_per_s": clips / seconds, "cpu_ms_per_clip": cpu_s / clips * 1e3}
    print(json.dumps(result | {"prepare_s": ready_s - start_s}))


if __name__ == "__main__":
    main()
