"""The cost of acquisition against its budget: thousands of videos of a scripted YouTube, through the whole path.

    python -m benchmarks.acquire [--videos 2000] [--output benchmarks/results/acquire.json]

Real builds of `--dataset audioset` in processes of their own, from label files to manifest. Scripted is only
yt-dlp's YouTube extractor (tests/support/youtube_site.py); media come from a loopback server in this process. Of all
videos 15 % are removed, private or out of reach from here, and for 3 % the media server answers 503.

unlimited  all videos with --videos-per-hour inf: processor time per video, memory over videos
again      the same command once more: only the 503s may be asked for again
budgeted   some videos at a fixed rate: the rate that came out, and the processor share that it took
long       a few videos of four minutes: what decoding a whole real video adds

Processor time (user and system) and memory (resident set) are those of the build's whole process tree,
sampled together with the number of videos asked for so far. "Per video" counts those that failed, too.
"""

import argparse
import hashlib
import importlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from tutti.datasets.files import write_file
from tutti.datasets.sample.audioset import MIDS, PARTITIONS, AudioSetPlan, Row, table_files
from tutti.pipelines.acquisition.budget import Budget
from tutti.pipelines.acquisition.origins import VIDEOS_PER_HOUR

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_S = 0.1
BLOCK_PACKETS = 50  # one second: libopus makes packets of 20 ms
NUM_BLOCKS = 120  # of which videos are put together; two videos of 12 blocks share about one
VIDEO_S, LONG_VIDEO_S, NUM_LONG_VIDEOS = 12, 240, 22  # around the segment of 10 s; about a song; of which 18 play
RATE_PER_HOUR = 7200.0  # 2 a second: thirty times the default
FAILURES = {  # last letter of an id -> what YouTube says
    "r": {"message": "Video unavailable. This video has been removed by the uploader"},
    "p": {"message": "Private video. Sign in if you've been granted access to this video"},
    "g": {"message": "The uploader has not made this video available in your country", "error": "geo"},
}
KINDS = "vvrvvvvvpvvvvtvvvvgvvvvvrvvvvvpvv"  # last letters of ids in turn; t: the media server says 503; v: plays


@dataclass(frozen=True)
class Sample:
    """A build at one moment, as seen from outside."""

    time_s: float  # since it began
    asked: int  # videos that YouTube was asked for
    cpu_s: float  # so far, whole process tree
    rss_mib: float  # whole process tree


@dataclass(frozen=True)
class Run:
    """A build that ended well."""

    samples: tuple[Sample, ...]
    summary: dict[str, Any]
    asked: Counter[str]  # video -> how often

    def report(self) -> dict[str, Any]:
        """Collect the figures that every phase has."""
        return {
            "wall_s": self.samples[-1].time_s,
            "cpu_s": self.samples[-1].cpu_s,
            "start_up_cpu_s": next(one.cpu_s for one in self.samples if one.asked),
            "peak_rss_mib": max(one.rss_mib for one in self.samples),
            "asked": sum(self.asked.values()),
            **{name: self.summary[name] for name in ("changed", "clips")},
            "stage_s": self.summary["seconds"],
        }


def video_ids(num: int, name: str) -> list[str]:
    """Make up ids of 11 characters; the last one tells the site what to answer."""
    names = (f"{name} {index}" for index in range(num))
    return [hashlib.sha256(text.encode()).hexdigest()[:10] + kind for text, kind in zip(names, cycle(KINDS))]


def write_labels(folder: Path, ids: Sequence[str]) -> None:
    """Write AudioSet's label files with their SHA256SUMS: each video has one segment of one instrument."""
    kinds = zip(ids, cycle(PARTITIONS), cycle(MIDS.values()))  # 3 and 11: every pair comes up
    rows = tuple(Row(video, partition, 0.0, 10.0, (mid,)) for video, partition, mid in kinds)
    plan = AudioSetPlan((), rows, gone=(), duplicate=("", ""), silent="", undecodable="", mislabelled={})
    sums = []
    for name, content in table_files(plan):
        write_file(folder / name, content)
        sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    (folder / "SHA256SUMS").write_text("".join(sums))


def sound() -> bytes:
    """Encode WebM with Opus, stereo, of NUM_BLOCKS seconds: another tone each second in each channel."""
    rng, time_s = np.random.default_rng(1), np.arange(48_000) / 48_000
    tones_hz = rng.uniform(110, 1760, (2, NUM_BLOCKS, 1))
    waveform = 0.3 * np.sin(2 * np.pi * tones_hz * time_s) + 0.01 * rng.standard_normal((2, NUM_BLOCKS, 48_000))
    return bytes(importlib.import_module("signals").webm(waveform.reshape(2, -1).astype(np.float32)))


def write_videos(folder: Path, ids: Sequence[str], length_s: int, whole: bytes) -> None:
    """Write a WebM for each video that plays: seconds of the whole in an order of its own, not encoded again."""
    with av.open(io.BytesIO(whole), "r") as source:
        packets = [bytes(packet) for packet in source.demux(audio=0) if packet.size]
        blocks = [packets[start : start + BLOCK_PACKETS] for start in range(0, len(packets), BLOCK_PACKETS)]
        for video in (video for video in ids if video.endswith("v")):
            picks = np.random.default_rng(int(video[:10], 16)).choice(NUM_BLOCKS, length_s, length_s > NUM_BLOCKS)
            with av.open(str(folder / f"{video}.webm"), "w", options={"fflags": "+bitexact"}) as target:
                stream = target.add_stream_from_template(source.streams.audio[0])
                for index, content in enumerate(content for pick in picks for content in blocks[pick]):
                    packet = av.Packet(content)
                    packet.stream, packet.time_base = stream, Fraction(1, 1000)  # WebM counts milliseconds
                    packet.pts, packet.dts, packet.duration = 20 * index, 20 * index, 20
                    target.mux(packet)


def build(folder: Path, labels: Path, site: Any, per_hour: float) -> Run:
    """Run one build in a process of its own; cache and output lie in `folder` and stay for the next."""
    command = [sys.executable, "-m", "pipelines.build", "--dataset", "audioset", "--data-from", str(labels)]
    command += ["--media-host", "127.0.0.1", "--videos-per-hour", str(per_hour)]
    command += ["--output", str(folder / "out"), "--cache-dir", str(folder / "cache")]
    before = site.calls()
    shown = folder.with_suffix(".txt")  # a file: nobody would empty a pipe
    with shown.open("w") as stream:
        environment = {**os.environ, **site.environment()}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        samples = watch(process, site.log)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {shown.read_text()}")
    return Run(tuple(samples), json.loads(shown.read_text().splitlines()[-1]), site.calls() - before)


def watch(process: subprocess.Popen[bytes], log: Path) -> list[Sample]:
    """Sample a process from its start to its end; `log` gains one line per requested video."""
    samples, cpu_s = [], dict[int, float]()  # of ended processes, what was seen last
    start_s, start_bytes = time.perf_counter(), log.stat().st_size
    root = psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.Error):  # one of them ended meanwhile: the next sample is complete again
            tree = [root, *root.children(recursive=True)]
            cpu_s |= {one.pid: sum(one.cpu_times()[:2]) for one in tree}  # user, system
            rss_mib = sum(one.memory_info().rss for one in tree) / 2**20
            asked = (log.stat().st_size - start_bytes) // len("12345678901\n")
            samples.append(Sample(time.perf_counter() - start_s, asked, sum(cpu_s.values()), rss_mib))
        time.sleep(SAMPLE_S)
    return samples


def memory(samples: Sequence[Sample], num: int) -> dict[str, Any]:
    """Find peaks up to a quarter, a half and all of the videos, and the slope over the second half."""
    peaks = {str(part): max(s.rss_mib for s in samples if s.asked <= part) for part in (num // 4, num // 2, num)}
    later = np.array([(s.asked, s.rss_mib * 1024) for s in samples if num // 2 <= s.asked < num])
    return {"peak_rss_mib_up_to": peaks, "rss_kib_per_video": float(np.polyfit(later[:, 0], later[:, 1], 1)[0])}


def pace(samples: Sequence[Sample], num: int) -> dict[str, float]:
    """Compute rate and processor share from the first request to the last; the burst came free."""
    first, last = (next(s for s in samples if s.asked >= count) for count in (1, num))
    elapsed_s = last.time_s - first.time_s
    rate = (num - max(Budget.burst, first.asked)) / elapsed_s * 3600
    return {
        "budget_per_hour": RATE_PER_HOUR,
        "measured_per_hour": rate,
        "measured_to_budget": rate / RATE_PER_HOUR,
        "core_share": (last.cpu_s - first.cpu_s) / elapsed_s,
    }


def cost(run: Run, num: int) -> dict[str, float]:
    """Compute processor time per video without the start-up, and compare it with the default budget."""
    cpu_s = (run.samples[-1].cpu_s - run.report()["start_up_cpu_s"]) / num
    return {
        "videos_per_s": num / run.samples[-1].time_s,
        "cpu_s_per_video": cpu_s,
        "core_share_at_default_budget": cpu_s * VIDEOS_PER_HOUR / 3600,
        "times_default_budget_on_one_core": 3600 / VIDEOS_PER_HOUR / cpu_s,
    }


def measure(folder: Path, num: int, num_budgeted: int) -> dict[str, Any]:
    """Measure all phases."""
    server_module, site_module = importlib.import_module("server"), importlib.import_module("youtube_site")
    phases = {"unlimited": (num, VIDEO_S), "budgeted": (num_budgeted, VIDEO_S), "long": (NUM_LONG_VIDEOS, LONG_VIDEO_S)}
    whole, media = sound(), folder / "media"
    media.mkdir()
    with server_module.Server() as server:
        server.serve_folder(media)
        site = site_module.Site(folder / "site", server)
        site.log.touch()
        for letter, reply in FAILURES.items():
            site.every(f".*{letter}", site_module.fails(**reply))
        site.every(".*", site_module.plays(server.url + "/{id}.webm"))
        for name, (count, length_s) in phases.items():
            ids = video_ids(count, name)
            write_labels(folder / f"{name}-labels", ids)
            write_videos(media, ids, length_s, whole)
            for video in (video for video in ids if video.endswith("t")):
                server.script(f"/{video}.webm", server_module.Answer(status=503))
        unlimited, again, long, budgeted = (
            build(folder / name, folder / f"{name}-labels", site, RATE_PER_HOUR if name == "budgeted" else math.inf)
            for name in ("unlimited", "unlimited", "long", "budgeted")
        )
    needless = sum(times for video, times in again.asked.items() if video[-1] != "t")
    return {
        "unlimited": unlimited.report() | memory(unlimited.samples, num) | cost(unlimited, num),
        "again": again.report() | {"asked_again_needlessly": needless},
        "long": long.report() | cost(long, NUM_LONG_VIDEOS),
        "budgeted": budgeted.report() | pace(budgeted.samples, num_budgeted),
    }


def main() -> None:
    """Print the chief figures on stderr and JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--budgeted-videos", type=int, default=300)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))  # the scripted YouTube; needs the packages of the extra `dev`
    os.environ.pop("TUTTI_OFFLINE", None)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), arguments.videos, arguments.budgeted_videos)
    print(text := json.dumps({"cpus": os.cpu_count(), "videos": arguments.videos, **results}, indent=1))
    for phase, figures in results.items():
        chief = [f"{key} {value:.4g}" for key, value in figures.items() if isinstance(value, float)]
        print(f"{phase}: {', '.join(chief)}", file=sys.stderr)
    if arguments.output:
        write_file(arguments.output, f"{text}\n".encode())


if __name__ == "__main__":
    main()
