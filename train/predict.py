"""Name the instruments in audio files, and when they play.

    python -m train.predict --run RUN song.wav folder/of/songs
    python -m train.predict --run RUN --json song.mp3
    python -m train.predict --run RUN --csv timeline.csv --plot pictures folder

Any file that the build's decoders read; of a folder, all files below it that are named as audio.
Mono, 16 kHz, -12 LUFS, as in training; every file is heard in consecutive chunks. stdout: per file
the instruments at or above the run's thresholds with their probabilities and times, or with --json
everything, per chunk too. --csv writes a row per file, chunk and instrument; --plot draws every file's
instruments over time, song.wav as song.png (a second song.* as song-2.png). A run on notes
hears those: --plot then leaves a piano roll and a MIDI file of each. A file that cannot be read
is named on stderr, the others are still predicted, and the exit code is 2 (missing) or 3 (undecodable).
Where there is nothing to hear (digital silence, channels that cancel), in a file or a chunk of it, no instrument is
named, and text, JSON and table say why; --downmix first takes one channel.
What an earlier prediction wrote is replaced; a file of anybody else's is not, and nothing is predicted.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from tutti.datasets.audibility import Downmix
from tutti.datasets.audio_files import AUDIO_SUFFIXES, is_audio_name
from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import TuttiError, UsageError
from tutti.datasets.files import write_file
from tutti.datasets.printable import in_unicode
from tutti.datasets.targets import IsOurs, check_targets
from tutti.train.cli import processor_threads
from tutti.train.data import default_device
from tutti.train.runs.saved import SavedRun, load_run
from tutti.train.task import AnyTask
from tutti.train.timeline import COLUMNS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; answer the exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("python -m train.predict", __doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run folder of train.run")
    parser.add_argument("--json", action="store_true", help="one JSON object with all probabilities")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the time line as a table")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="also draw the time line of every file")
    parser.add_argument(
        "--downmix", choices=get_args(Downmix), default="mean", help="how channels become one (default: mean)"
    )
    parser.add_argument("audio", type=Path, nargs="+", metavar="AUDIO", help="files and folders")
    options = parser.parse_args(arguments)
    run = load_run(options.run, default_device())
    if (why := run.task.refusal(options.csv)) is not None:
        raise UsageError(f"{options.run}: {why}")
    check_targets(_targets(options, run.task), "--csv or --plot")
    with processor_threads(run.recipe):
        files, exit_code = _each_file(options, run)
    if options.csv is not None:
        write_file(options.csv, run.task.csv(files, run.thresholds).encode())
    return exit_code


def predict_file(path: Path, run: SavedRun, base: Path | None = None, downmix: Downmix = "mean") -> dict[str, Any]:
    """Name what plays in one file, and when; with `base` also in pictures, named BASE and a suffix.

    Raises:
        UsageError: no such file.
        IntegrityError: it is no audio that the decoders read.
    """
    result: dict[str, Any] = run.task.predict(run.tagger, run.thresholds, path, base, downmix)
    return result | {"path": in_unicode(str(path))}  # a name may hold bytes that are no UTF-8


def _targets(options: argparse.Namespace, task: AnyTask) -> dict[Path, IsOurs]:
    """List what may be written, and how a file of an earlier prediction is recognized."""
    header = ",".join(COLUMNS[:6]).encode()  # as an earlier version wrote it, too
    targets: dict[Path, IsOurs] = {} if options.csv is None else {options.csv: lambda head: head.startswith(header)}
    if options.plot is not None:
        names: list[str] = []
        for path in itertools.chain.from_iterable(_found(given) for given in options.audio):
            name = next_name(path, names)
            targets |= {options.plot / f"{name}{suffix}": is_ours for suffix, is_ours in task.pictures.items()}
    return targets


def _found(given: Path) -> list[Path]:
    try:
        return audio_files(given)
    except TuttiError:  # told where it is to be heard
        return []


def next_name(path: Path, names: list[str]) -> str:
    """Name a file's pictures: its own name, numbered where it is taken; added to the names."""
    others = (f"{path.stem}-{number}" for number in itertools.count(2))
    names.append(next(name for name in itertools.chain([path.stem], others) if name not in names))
    return names[-1]


def _each_file(options: argparse.Namespace, run: SavedRun) -> tuple[list[dict[str, Any]], int]:
    """Predict all files that can be read, printed one by one; also the exit code."""
    files: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    names: list[str] = []
    exit_code = 0
    for given in options.audio:
        try:
            found = audio_files(given)
        except TuttiError as error:
            found = []
            exit_code = max(exit_code, _told(error, given, errors))
        for path in found:
            try:
                name = next_name(path, names)
                base = None if options.plot is None else options.plot / name
                files.append(predict_file(path, run, base, options.downmix))
            except TuttiError as error:
                exit_code = max(exit_code, _told(error, path, errors))
            else:
                if not options.json:
                    print(run.task.text(files[-1]), flush=True)
    if options.json:
        print(json.dumps({"run": in_unicode(str(options.run)), "files": files, "errors": errors}))
    return files, exit_code


def _told(error: TuttiError, path: Path, errors: list[dict[str, str]]) -> int:
    print(f"error: {error}", file=sys.stderr)
    errors.append({"path": in_unicode(str(path)), "error": in_unicode(str(error))})
    return error.exit_code


def audio_files(path: Path) -> list[Path]:
    """List the file itself; or of a folder, all files below it that are named as audio, sorted.

    Raises:
        UsageError: a folder without any.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if is_audio_name(p) and p.is_file())
    if not found:
        raise UsageError(
            f"{path}: no audio file below it; give files, or a folder of {', '.join(sorted(AUDIO_SUFFIXES))}"
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
