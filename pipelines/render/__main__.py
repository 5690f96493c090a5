"""Render MIDI files, or pieces composed from a seed, to audio with exact notes and labels.

    python -m pipelines.render song.mid --output out                        out/song.flac, .mid, .json
    python -m pipelines.render my-scores --output out --variants 3 --stems   other programs, keys, tempos, rooms
    python -m pipelines.render --compose 10 --output out --seed 1            no input at all

Of each rendering three files: the audio (stereo, 16 bit), the notes that it holds as MIDI, and a JSON with its
instruments, when each is sure to be heard, and everything that decided the sound. `--stems` adds one file per program;
the audio is their sum. Variant 0 is the score as it stands. For a dataset of shards: `pipelines.build --dataset
composed` or `musescore_rendered`. Needs FluidSynth and a soundfont: apt install fluidsynth fluid-soundfont-gm.
An earlier rendering is replaced; where a file of anybody else's has such a name, nothing is rendered.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.files import write_file
from tutti.datasets.litter import is_litter
from tutti.datasets.manifest import digest_of
from tutti.datasets.record import DRUMS, Note, Seconds
from tutti.datasets.scores.composing import compose
from tutti.datasets.scores.general_midi import PROGRAM_NAMES, instrument_of
from tutti.datasets.scores.playing import sounding
from tutti.datasets.scores.score import SCORE_SUFFIXES, Score, ScoreError, load_midi, write_midi
from tutti.datasets.scores.soundfonts import Soundfont, find_soundfonts, open_soundfonts
from tutti.datasets.scores.variation import Performance, score_digest, vary
from tutti.datasets.targets import check_targets
from tutti.pipelines.render.media import flac, peak_gain
from tutti.pipelines.render.synthesizer import Rendering, synthesize, version


@dataclass(frozen=True)
class Piece:
    """A score and the name of its files."""

    name: str
    score: Score


def build_parser() -> Parser:
    """Build the parser of all flags."""
    parser = Parser("python -m pipelines.render", (__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("midi", nargs="*", type=Path, metavar="MIDI", help="MIDI files, or folders of them")
    add("--compose", type=int, default=0, metavar="N", help="also N composed pieces")
    add("--output", type=Path, required=True, metavar="DIR", help="where the files go")
    add("--seed", type=int, default=0, metavar="N", help="of compositions, variations, choice of soundfonts (0)")
    add("--variants", type=int, default=1, metavar="N", help="renderings of each score; the first as it stands (1)")
    add("--stems", action="store_true", help="also one file per program")
    add("--soundfont", type=Path, action="append", default=[], metavar="FILE", help=".sf2 or .sf3; repeatable")
    add("--sample-rate", type=int, default=44_100, metavar="HZ", help="of the files (44100)")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    return run_command(run, argv)


def run(argv: Sequence[str]) -> int:
    """Render what the command line names; a MIDI file that cannot be read is skipped and named.

    Raises:
        UsageError: nothing to render, wrong values, no soundfont, no FluidSynth.
    """
    arguments = build_parser().parse_args(argv)
    if arguments.variants < 1 or arguments.compose < 0 or not 8_000 <= arguments.sample_rate <= 96_000:
        raise UsageError("expected --variants >= 1, --compose >= 0 and --sample-rate from 8000 to 96000")
    named = named_files(arguments.midi)
    if not named and not arguments.compose:
        raise UsageError("nothing to render; name MIDI files or folders, or --compose N")
    fonts = open_soundfonts(arguments.soundfont) if arguments.soundfont else find_soundfonts()
    version()
    names = [*named, *(composed_name(arguments.seed, number) for number in range(arguments.compose))]
    names = [variant_name(name, variant) for name in names for variant in range(arguments.variants)]
    check_output(arguments.output, names, list(named.values()))
    skipped: dict[str, str] = {}
    start_s, rendered_s, written = time.perf_counter(), 0.0, 0
    for piece in pieces(named, arguments.compose, arguments.seed, skipped):
        for variant in range(arguments.variants):
            performance = vary(piece.score, seed=arguments.seed, variant=variant)
            font = font_for(piece, arguments.seed, variant, fonts)
            rendering = synthesize(performance, font, sample_rate=arguments.sample_rate, stems=arguments.stems)
            name = variant_name(piece.name, variant)
            write_rendering(arguments.output / name, performance, rendering, font, arguments.seed, variant)
            if rendering.silent:
                print(f"{name}: {len(rendering.silent)} notes lie beyond the soundfont's keys: silent", file=sys.stderr)
            rendered_s += rendering.mix.shape[1] / rendering.sample_rate
            written += 1
    seconds = time.perf_counter() - start_s
    summary = {"renderings": written, "audio_s": round(rendered_s, 1), "seconds": round(seconds, 1), "skipped": skipped}
    print(json.dumps(summary))
    return IntegrityError.exit_code if skipped else 0


def composed_name(seed: int, number: int) -> str:
    """Name the files of a composed piece."""
    return f"composed-{seed}-{number:06d}"


def variant_name(name: str, variant: int) -> str:
    """Name the files of a variant."""
    return name if variant == 0 else f"{name}-v{variant}"


def check_output(output: Path, names: Sequence[str], scores: Sequence[Path]) -> None:
    """Make sure that all files to be written are free, or an earlier rendering's: its JSON says so.

    Raises:
        UsageError: one is somebody else's, or a score that is to be rendered.
    """
    read = {path.resolve() for path in scores}
    for name in names:
        if (output / f"{name}.mid").resolve() in read:
            raise UsageError(f"{output / name}.mid: is to be rendered, and would be replaced; choose another --output")
        facts, others = output / f"{name}.json", [output / f"{name}{suffix}" for suffix in (".flac", ".mid", "-stems")]
        if os.path.lexists(facts):
            check_targets({facts: is_rendering}, "--output")
        else:
            check_targets({path: lambda head: False for path in others}, "--output")


def is_rendering(head: bytes) -> bool:
    """Whether a file begins as the JSON of a rendering."""
    return head.startswith(b'{\n "drum_kit": ') and b'"fluidsynth": ' in head


def named_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Map names of outputs to files; a folder's files are named by their path below it.

    Raises:
        UsageError: no such file, a folder without MIDI files, or two files of one name.
    """
    named: dict[str, Path] = {}
    for path in paths:
        found = [PurePosixPath(path.name)] if path.is_file() else _below(path)
        for relative in found:
            name = str(relative.with_suffix(""))
            file = path if path.is_file() else path / relative
            if name in named:
                raise UsageError(f"{named[name]} and {file} would both be written as {name}; render them apart")
            named[name] = file
    return named


def _below(folder: Path) -> list[PurePosixPath]:
    found = [
        PurePosixPath(os.path.relpath(os.path.join(place, name), folder))
        for place, _, names in os.walk(folder)
        for name in names
        if PurePosixPath(name).suffix.lower() in SCORE_SUFFIXES and not is_litter(name)
    ]
    if not found:
        raise UsageError(f"{folder}: {'holds no .mid file' if folder.is_dir() else 'does not exist'}; name MIDI files")
    return sorted(found)


def pieces(named: dict[str, Path], composed: int, seed: int, skipped: dict[str, str]) -> Iterator[Piece]:
    """Yield scores of all files, then composed ones; what cannot be read is entered into `skipped`."""
    for name, path in named.items():
        try:
            yield Piece(name, load_midi(path, path.name))
        except ScoreError as error:
            skipped[name] = error.reason
            print(f"skipped: {error}", file=sys.stderr)
    for number in range(composed):
        yield Piece(composed_name(seed, number), compose(seed, number))


def font_for(piece: Piece, seed: int, variant: int, fonts: Sequence[Soundfont]) -> Soundfont:
    """Choose one of the soundfonts, by a digest of what is rendered."""
    return fonts[int(digest_of([score_digest(piece.score), seed, variant])[:8], 16) % len(fonts)]


def write_rendering(
    path: Path, performance: Performance, rendering: Rendering, font: Soundfont, seed: int, variant: int
) -> None:
    """Write `path`.flac, .mid and .json, and the stems in a folder `path`-stems."""
    gain = peak_gain(rendering.mix)
    performance = replace(performance, score=audible(performance.score, rendering.silent))
    facts = facts_of(performance, font) | {"seed": seed, "variant": variant, "gain": round(gain, 6)}
    text = json.dumps(facts | {"sample_rate": rendering.sample_rate}, indent=1, sort_keys=True) + "\n"
    write_file(path.with_name(f"{path.name}.json"), text.encode(), durable=False)  # first: the others are known by it
    stems = {} if rendering.stems is None else dict(zip(rendering.programs, rendering.stems, strict=True))
    for program, stem in stems.items():
        file = path.with_name(f"{path.name}-stems") / f"{program:03d} {name_of(program).replace('/', '-')}.flac"
        write_file(file, flac(stem, rendering.sample_rate, gain), durable=False)
    write_file(path.with_name(f"{path.name}.flac"), flac(rendering.mix, rendering.sample_rate, gain), durable=False)
    write_file(path.with_name(f"{path.name}.mid"), write_midi(performance.score), durable=False)


def audible(score: Score, silent: Sequence[Note]) -> Score:
    """Remove notes that do not sound from the score, each once."""
    left = Counter(silent)
    notes = []
    for note in score.notes:
        if left[note] > 0:
            left[note] -= 1
        else:
            notes.append(note)
    return replace(score, notes=tuple(notes))


def facts_of(performance: Performance, font: Soundfont) -> dict[str, Any]:
    """Describe a rendering, for its JSON."""
    notes = performance.score.notes
    instruments = sorted({note.instrument for note in notes if note.instrument is not None})
    programs = [
        {
            "program": program,
            "name": name_of(program),
            "instrument": instrument_of(program),
            "gain_db": performance.gains_db.get(program, 0.0),
            "notes": sum(note.program == program for note in notes),
        }
        for program in sorted({note.program for note in notes})
    ]
    return {
        "performance": performance.digest(),
        "soundfont": {"name": font.path.name, "sha256": font.sha256},
        "fluidsynth": version(),
        "room": asdict(performance.room),
        "drum_kit": performance.drum_kit,
        "programs": programs,
        "heard": {name: spans(performance.score, name) for name in instruments},
    }


def spans(score: Score, instrument: str) -> list[tuple[Seconds, Seconds]]:
    """List when an instrument surely sounds: joined, in order."""
    joined: list[tuple[Seconds, Seconds]] = []
    for start, end in sorted(sounding(note)[0] for note in score.notes if note.instrument == instrument):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], round(end, 6)))
        else:
            joined.append((start, round(end, 6)))
    return joined


def name_of(program: int) -> str:
    """Return General MIDI's name of a program, for file names and people."""
    return "Percussion" if program == DRUMS else PROGRAM_NAMES[program]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
