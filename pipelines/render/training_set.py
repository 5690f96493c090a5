"""Training data of the built-in embedder: solos of every General MIDI program, varied, as log-mel.

    python -m pipelines.render.training_set --output DIR [--pieces 40] [--soundfont FILE ...]

One file per program and soundfont (`40-74594e8f4250.npz`); a run that was stopped goes on. Every piece is composed
anew, played in another key, tempo and room, as much as three semitones faster or slower, and sent through filters and
noise; two excerpts of it are kept. Mixtures are made of them in training.

Shapes: N excerpts, F frames, M mel bands.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tutti.augment.batch import batch_of
from tutti.augment.chain import Chain, Effect
from tutti.augment.transforms.colored_noise import ColoredNoise
from tutti.augment.transforms.high_pass import HighPass
from tutti.augment.transforms.high_shelf import HighShelf
from tutti.augment.transforms.low_pass import LowPass
from tutti.augment.transforms.low_shelf import LowShelf
from tutti.augment.transforms.peaking import Peaking
from tutti.augment.transforms.reverb import Reverb
from tutti.datasets.audio import resample, to_mono
from tutti.datasets.command import Parser, run_command
from tutti.datasets.files import write_file
from tutti.datasets.record import DRUMS
from tutti.datasets.scores.composing import ComposeConfig, solo
from tutti.datasets.scores.general_midi import instrument_of
from tutti.datasets.scores.soundfonts import Soundfont, find_soundfonts, open_soundfonts
from tutti.datasets.scores.variation import VariationConfig, vary
from tutti.pipelines.embedders.front_end import EXCERPT_SAMPLES, SAMPLE_RATE, front_end, unit_power
from tutti.pipelines.render.synthesizer import synthesize

SEED = 20_261_121  # of the published weights
PROGRAMS = (*range(112), DRUMS)  # without single drums and sound effects
PIECE = ComposeConfig(min_s=8.0, max_s=8.0, max_parts=1)
MAX_SHIFT = 3.0  # semitones, by playing faster or slower
RENDER_RATE = 32_000  # Hz, as the source `rendered`
SILENT_DB = -50.0  # an excerpt so far below its piece's loudest is left out
# The transforms' own ranges are for music as loud and clear as records; sample libraries and codecs are not.
EFFECTS = Chain(
    (
        Effect(Peaking(), 0.3),
        Effect(LowShelf(), 0.3),
        Effect(HighShelf(), 0.3),
        Effect(Chain((Effect(HighPass(), 0.3), Effect(LowPass(), 0.3)), order="one_of"), 0.3),
        Effect(Reverb(), 0.2),
        Effect(ColoredNoise(min_exponent=-2, max_exponent=1, min_snr_db=15, max_snr_db=60), 0.5),
    )
)


def excerpts(program: int, font: Soundfont, index: int, seed: int = SEED) -> NDArray[np.float32]:
    """Render two excerpts (2, EXCERPT_SAMPLES) at 16 kHz of one piece, or fewer where it is silent."""
    rng = np.random.default_rng([seed, program, index, int(font.key[:8], 16)])
    score = solo(seed, index, program, PIECE)
    performance = vary(score, seed=seed, variant=1 + index, config=VariationConfig(swap_programs=False))
    rendering = synthesize(performance, font, sample_rate=RENDER_RATE, tail_s=0.0)
    shift = 2 ** (rng.uniform(-MAX_SHIFT, MAX_SHIFT) / 12) if rng.random() < 0.5 else 1.0
    mono = resample(to_mono(rendering.mix), round(RENDER_RATE * shift / 100) * 100, SAMPLE_RATE)
    kept = []
    power = float(np.mean(np.square(mono))) + 1e-20
    for part in np.array_split(mono, 2):
        latest = max(1, len(part) - EXCERPT_SAMPLES)
        start = int(rng.integers(latest))
        cut = np.zeros(EXCERPT_SAMPLES, np.float32)
        cut[: len(part) - start] = part[start : start + EXCERPT_SAMPLES]
        if np.mean(np.square(cut)) > power * 10 ** (SILENT_DB / 10):
            kept.append(cut)
    return np.stack(kept) if kept else np.zeros((0, EXCERPT_SAMPLES), np.float32)


def log_mels(program: int, font: Soundfont, pieces: int, seed: int = SEED) -> NDArray[np.float16]:
    """Compute log-mel of excerpts of `pieces` pieces after effects, in dB (N, F, M)."""
    waveforms = np.concatenate([excerpts(program, font, index, seed) for index in range(pieces)])
    generator = torch.Generator().manual_seed(seed * 1_000 + program)
    signal_BT = torch.from_numpy(np.stack([unit_power(waveform) for waveform in waveforms]))
    batch = batch_of(signal_BT, torch.zeros(len(signal_BT), 1, dtype=torch.int8), sample_rate=SAMPLE_RATE)
    varied_BT = EFFECTS(batch, generator).signal
    with torch.inference_mode():
        frames_BFM = front_end()(torch.from_numpy(np.stack([unit_power(w) for w in varied_BT.numpy()])))
    result: NDArray[np.float16] = frames_BFM.numpy().astype(np.float16)
    return result


def pieces_of(program: int, pieces: int) -> int:
    """Choose the number of pieces: fewer for synthesizers, and for programs without a class."""
    return pieces if instrument_of(program) not in (None, "synthesizer") else max(1, pieces // 3)


def main(argv: Sequence[str]) -> int:
    """Write what is missing."""
    return run_command(_command, argv)


def _command(argv: Sequence[str]) -> int:
    parser = Parser("python -m pipelines.render.training_set", __doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=40)
    parser.add_argument("--soundfont", type=Path, action="append", default=[])
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    fonts = open_soundfonts(arguments.soundfont) if arguments.soundfont else find_soundfonts()
    for program in PROGRAMS:
        for font in fonts:
            path = arguments.output / f"{program}-{font.key}.npy"
            if not path.exists():
                write_array(path, log_mels(program, font, pieces_of(program, arguments.pieces)))
        print(f"program {program} done", file=sys.stderr, flush=True)
    return 0


def write_array(path: Path, array: NDArray[np.float16]) -> None:
    """Write a .npy file, whole or not at all."""
    import io

    stream = io.BytesIO()
    np.save(stream, array)
    write_file(path, stream.getvalue(), durable=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
