"""The speed of rendering, against FluidSynth alone on the same MIDI files.

    python -m benchmarks.render [--pieces 12] [--midi FOLDER] [--output benchmarks/results/render.json]

bare     the command `fluidsynth -F`, the library's own player, without loading the soundfont (an almost empty file
         is rendered too, and its time taken off)
mix      our synthesizer, samples in memory
stems    the same with one waveform per program, reverberation in each
files    `pipelines.render`: variation, mix, FLAC, MIDI, JSON
dataset  what the source `rendered` asks for: 32 kHz, composed again, mono FLAC

Composed pieces, or a folder of MIDI files. Processor time, so that a busy machine does not matter; seconds of audio
(tails included) per second of one core.
"""

import argparse
import contextlib
import io
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tutti.datasets.files import write_file
from tutti.datasets.record import Media, Note, Recording
from tutti.datasets.scores.composing import compose
from tutti.datasets.scores.score import Score, read_midi, write_midi
from tutti.datasets.scores.soundfonts import Soundfont, find_soundfonts
from tutti.datasets.scores.variation import Performance
from tutti.datasets.sources.rendered import Rendered
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.render.__main__ import main as render
from tutti.pipelines.render.media import render_recording
from tutti.pipelines.render.synthesizer import POLYPHONY, TAIL_S, synthesize, version

RATE = 44_100  # Hz
DATASET_RATE = 32_000  # Hz
GOAL = 50.0  # times real time per core


def main(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=int, default=12)
    parser.add_argument("--midi", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(argv)
    font = find_soundfonts()[0]
    scores = read_scores(arguments.midi) if arguments.midi else [compose(0, index) for index in range(arguments.pieces)]
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(scores, font, Path(temporary))
    print(json.dumps(found, indent=1))
    if arguments.output:
        write_file(arguments.output, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
    return 0


def read_scores(folder: Path) -> list[Score]:
    """Read all MIDI files of a folder."""
    return [read_midi(path.read_bytes(), path.name) for path in sorted(folder.glob("*.mid"))]


def measure(scores: Sequence[Score], font: Soundfont, folder: Path) -> dict[str, Any]:
    """Measure figures of all ways."""
    audio_s = sum(score.end_s + TAIL_S for score in scores)
    files = []
    for index, score in enumerate(scores):
        path = folder / f"{index}.mid"
        path.write_bytes(write_midi(score))
        files.append(path)
    performances = [Performance(score) for score in scores]
    synthesize(performances[0], font, sample_rate=RATE)  # loads the soundfont

    def dataset() -> None:
        for index in range(len(scores)):
            address = Rendered(f"composed/0/{index:06d}", font.key, DATASET_RATE, 0, 1, "v1").address()
            render_recording(Recording(Media(address), ()), None, Cache(folder / "cache"))

    seconds = {
        "mix": of_this_process(lambda: [synthesize(p, font, sample_rate=RATE) for p in performances]),
        "stems": of_this_process(lambda: [synthesize(p, font, sample_rate=RATE, stems=True) for p in performances]),
        "files": of_this_process(lambda: quietly([*map(str, files), "--output", str(folder / "out")])),
        "dataset": of_this_process(dataset),
    }
    bare_s = bare(files, font, folder)
    speeds = {name: round(audio_s / value, 1) for name, value in seconds.items()}
    result: dict[str, Any] = {
        "pieces": len(scores),
        "audio_s": round(audio_s, 1),
        "notes": sum(len(score.notes) for score in scores),
        "fluidsynth": version(),
        "times_real_time": speeds | ({} if bare_s is None else {"bare": round(audio_s / bare_s, 1)}),
        "goal": GOAL,
    }
    if bare_s is not None:
        result["against_bare"] = {name: round(bare_s / value, 3) for name, value in seconds.items()}
    return result


def of_this_process(work: Callable[[], object]) -> float:
    """Measure the processor seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def quietly(arguments: Sequence[str]) -> None:
    """Run the command without its summary."""
    with contextlib.redirect_stdout(io.StringIO()):
        render(arguments)


def bare(files: Sequence[Path], font: Soundfont, folder: Path) -> float | None:
    """Time the `fluidsynth` command on all files, in processor seconds without its start; None where it is missing."""
    if shutil.which("fluidsynth") is None:
        return None
    empty = folder / "empty.mid"
    empty.write_bytes(write_midi(Score((Note(0.0, 0.01, 60, 0, "piano", 1),), 0.01)))
    start_s = min(_command(empty, font, folder) for _ in range(3))
    return sum(_command(file, font, folder) - start_s for file in files)


def _command(file: Path, font: Soundfont, folder: Path) -> float:
    rooms = ["-C", "0", "-R", "1", "-o", f"synth.polyphony={POLYPHONY}"]
    settings = ["-n", "-i", "-q", "-r", str(RATE), "-g", "0.5", *rooms]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["fluidsynth", *settings, "-F", str(folder / "bare.wav"), str(font.path), str(file)]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
