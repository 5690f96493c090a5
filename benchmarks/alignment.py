r"""Is the delay between a score and its rendering found within 20 ms? And how late is each program heard?

    python -m benchmarks.alignment --output benchmarks/results/alignment.json \
        --soundfont FluidR3_GM.sf2,MuseScore_General_Full.sf3 --soundfont TimGM6mb.sf2,sf_GMbank.sf2 \
        --unseen OPL-3_FM_128M.sf2
    python -m benchmarks.alignment --attacks --soundfont ...      the table of datasets/scores/attacks.py

Soundfonts that share samples are named together, with commas (these are Debian's fluid-soundfont-gm,
musescore-general-soundfont, timgm6mb-soundfont, csound-soundfont, opl3-soundfont). Without arguments: the installed
one. Pieces that no table was made with, half of them solos, half of them mixes, one of four through MP3; half as
composed, half varied (programs, room); each begins later than its score, or was cut into, by a planted delay.

table      the lateness of each program as `pipelines/decoding/align.py` has it
left_out   as measured here with the other groups of soundfonts alone: what to expect of one that nobody has measured
no_table   every program begins like a piano
"""

import argparse
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tutti.datasets import audio
from tutti.datasets.decoder import decode_spans
from tutti.datasets.files import write_file
from tutti.datasets.record import DRUMS, Note, Seconds
from tutti.datasets.scores.attacks import LATENESS_S
from tutti.datasets.scores.composing import SOUND_EFFECTS, ComposeConfig, compose, solo
from tutti.datasets.scores.soundfonts import Soundfont, find_soundfonts, open_soundfont
from tutti.datasets.scores.variation import Performance, Room, vary
from tutti.pipelines.decoding.align import AlignConfig, delay
from tutti.pipelines.decoding.config import PrepareConfig
from tutti.pipelines.render.synthesizer import synthesize, version

WITHIN_S: Seconds = 0.02  # a frame label of 50 Hz
GOAL = 0.95  # of the pairs
RATE = PrepareConfig().sample_rate  # Hz, at which builds align
MEDIA_RATE = 44_100  # Hz, of renderings
PLANTED_S: tuple[Seconds, Seconds] = (-0.2, 1.8)  # what AlignConfig looks for, less a margin
MP3_EVERY = 4

# Pieces of the table and of the figures: seeds that differ, and differ from every test's.
TABLE_SEED, HELD_OUT_SEED = 52_000, 61_000
SOLOS = 8  # a program: one alone is off by 5 ms, of strings and pads by 15
SOLO_LENGTH = ComposeConfig(min_s=12.0, max_s=18.0)
PIANO = 0
MIN_SCORE = 0.1  # of a solo: below it has no pitch, and nothing was found
# Solos of the table begin with their score, and are looked for there only.
NEAR = AlignConfig(lowest_delay_s=-0.05, highest_delay_s=0.25)

Lateness = Mapping[int, Seconds]


@dataclass(frozen=True, eq=False)
class Pair:
    """A score and its recording."""

    kind: str  # "solo" or "mix"
    is_mp3: bool
    notes: tuple[Note, ...]
    samples: NDArray[np.float32]  # (T,), at RATE
    planted_s: Seconds


def main(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soundfont", action="append", default=[], metavar="PATH[,PATH...]")
    parser.add_argument("--unseen", action="append", default=[], type=Path, metavar="PATH")
    parser.add_argument("--pairs", type=int, default=112, help="of each soundfont")
    parser.add_argument("--attacks", action="store_true", help="only measure the table")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(argv)
    groups = [[open_soundfont(Path(path)) for path in text.split(",")] for text in arguments.soundfont]
    groups = groups or [list(find_soundfonts()[:1])]
    found: dict[str, Any] = {"fluidsynth": version()}
    attacks: dict[Soundfont, Lateness] = {}
    if arguments.attacks or len(groups) > 1:
        raw = {font: measure_attacks(font) for group in groups for font in group}
        found["piano_ms"] = {font.path.name: round(1000 * late_s[PIANO], 1) for font, late_s in raw.items()}
        attacks = {font: {p: late - late_s[PIANO] for p, late in late_s.items()} for font, late_s in raw.items()}
        table = median_ms(list(attacks.values()))
        found["table_ms"] = [table[program] for program in range(DRUMS + 1)]
        found["differs_from_the_table_in_use"] = [p for p in table if abs(table[p] - 1000 * LATENESS_S[p]) > 1]
    if not arguments.attacks:
        unseen = [[open_soundfont(path)] for path in arguments.unseen]
        found |= {"goal": GOAL, "pairs": arguments.pairs, "soundfonts": {}}
        for group in [*groups, *unseen]:
            others = [attacks[font] for font in attacks if font not in group] if group in groups else []
            left_out = {p: late_ms / 1000 for p, late_ms in median_ms(others).items()} if others else None
            for font in group:
                found["soundfonts"][font.path.name] = measure(held_out_pairs(font, arguments.pairs), left_out)
    print(json.dumps(found, indent=1))
    if arguments.output:
        write_file(arguments.output, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
    return 0


def measure_attacks(font: Soundfont, programs: Sequence[int] = range(DRUMS + 1)) -> dict[int, Seconds]:
    """Measure by program how late its notes are found without a table; dry.

    Left out are those that no score can be aligned with: unpitched programs and noises.
    """
    found: dict[int, Seconds] = {}
    for program in programs:
        late_s = []
        for index in range(SOLOS):
            rng = np.random.default_rng([TABLE_SEED, program, index])
            score = solo(TABLE_SEED, index, program, SOLO_LENGTH)
            rendering = synthesize(Performance(score, room=Room(level=0.0)), font, sample_rate=RATE, tail_s=0.5)
            planted = int(rng.integers(round(NEAR.hop_s * RATE)))  # frames lie anywhere between onsets
            samples_T = np.pad(rendering.mix.mean(axis=0), (planted, 0))
            answer = delay(samples_T, RATE, score.notes, NEAR, lateness_s={})
            if answer.score >= MIN_SCORE:
                late_s.append(answer.delay_s - planted / RATE)
        if len(late_s) == SOLOS and program not in SOUND_EFFECTS:
            found[program] = float(np.median(late_s))
    return found


def median_ms(tables: Sequence[Lateness]) -> dict[int, int]:
    """Compute medians over several soundfonts, in whole milliseconds; 0 where none has a value."""
    return {
        program: round(1000 * float(np.median([table[program] for table in tables if program in table] or [0.0])))
        for program in range(DRUMS + 1)
    }


def held_out_pairs(font: Soundfont, count: int) -> Iterator[Pair]:
    """Render solos and as many mixes; a function of the soundfont's digest and the count."""
    key = int(font.key, 16)
    programs = np.random.default_rng([HELD_OUT_SEED, key]).permutation(SOUND_EFFECTS.start - 8).tolist()  # no drums
    for index in range(count):
        rng = np.random.default_rng([HELD_OUT_SEED, key, index])
        is_solo = index % 2 == 0
        program = programs[index // 2 % len(programs)]
        score = solo(HELD_OUT_SEED, index, program) if is_solo else compose(HELD_OUT_SEED + key, index)
        performance = vary(score, seed=HELD_OUT_SEED, variant=index // 2 % 2)
        mono_T = synthesize(performance, font, sample_rate=MEDIA_RATE, tail_s=0.5).mix.mean(axis=0)
        planted = round(rng.uniform(*PLANTED_S) * MEDIA_RATE)
        mono_T = np.pad(mono_T, (planted, 0)) if planted >= 0 else mono_T[-planted:]
        is_mp3 = rng.integers(MP3_EVERY) == 0
        if is_mp3:
            mono_T = through_mp3(mono_T)
        samples_T = audio.resample(mono_T, MEDIA_RATE, RATE)
        kind = "solo" if is_solo else "mix"
        yield Pair(kind, bool(is_mp3), performance.score.notes, samples_T, planted / MEDIA_RATE)


def through_mp3(mono_T: NDArray[np.float32]) -> NDArray[np.float32]:
    """Encode and decode MP3; LAME's header states its padding, so the decoder takes it off again."""
    stream = io.BytesIO()
    soundfile.write(stream, mono_T / max(1.0, float(np.abs(mono_T).max())), MEDIA_RATE, format="MP3")
    _, (decoded,) = decode_spans(stream.getvalue(), "rendering.mp3", [(0.0, None)])
    mono: NDArray[np.float32] = decoded[0]
    return mono


def measure(pairs: Iterator[Pair], left_out: Lateness | None) -> dict[str, Any]:
    """Measure shares and errors over all pairs of a soundfont, whether a build would keep them or not."""
    tables: dict[str, Lateness] = {"table": LATENESS_S, "no_table": {}}
    if left_out is not None:
        tables["left_out"] = left_out
    kinds, errors_s = [], []
    scores, swapped = [], []
    before: Pair | None = None
    for pair in pairs:
        answers = {name: delay(pair.samples, RATE, pair.notes, lateness_s=table) for name, table in tables.items()}
        errors_s.append([answer.delay_s - pair.planted_s for answer in answers.values()])
        kinds.append((pair.kind, pair.is_mp3))
        scores.append(answers["table"].score)
        if before is not None:
            swapped.append(delay(pair.samples, RATE, before.notes).score)
        before = pair
    errors = np.array(errors_s)
    enough = PrepareConfig().min_alignment
    parts = {
        "all": np.ones(len(kinds), bool),
        "solos": np.array([kind == "solo" for kind, _ in kinds]),
        "mixes": np.array([kind == "mix" for kind, _ in kinds]),
        "mp3": np.array([is_mp3 for _, is_mp3 in kinds]),
        "kept": np.array(scores) >= enough,
    }
    return {
        "within_20_ms": {
            name: {part: _share(errors[mask, column]) for part, mask in parts.items()}
            for column, name in enumerate(tables)
        },
        "error_ms": {
            name: {
                "median": round(1000 * float(np.median(errors[:, column])), 1),
                "absolute_95_percent": round(1000 * float(np.percentile(np.abs(errors[:, column]), 95)), 1),
            }
            for column, name in enumerate(tables)
        },
        "counts": {part: int(mask.sum()) for part, mask in parts.items()},
        "kept_swapped": round(float(np.mean(np.array(swapped) >= enough)), 3),
    }


def _share(errors_s: NDArray[np.float64]) -> float | None:
    return round(float(np.mean(np.abs(errors_s) <= WITHIN_S)), 3) if len(errors_s) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
