"""Train the built-in embedder on what `training_set` wrote: which program is loudest, which instruments sound.

    python -m pipelines.render.training_set --output DIR --soundfont ...       some 10 minutes of one core
    python -m pipelines.render.train_embedder --data DIR --output OUT --soundfont ...

Every example is made anew: one excerpt, in most cases with one or two others some decibels below, added as powers of
mel bands; then an equalizer, a noise floor, a low-pass, a random depth. All draws come from (seed, step), and the state
is saved now and then, so a run that was stopped goes on and ends the same. The last step writes `builtin.safetensors`
and `builtin.json`, to be put into `pipelines/embedders`.

Shapes: N excerpts, B examples, K voices of a mixture, F frames, M mel bands, P programs, I instruments.
"""

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as save_safetensors
from torch import Tensor
from torch.nn import functional as F

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import UsageError
from tutti.datasets.files import write_file
from tutti.datasets.scores.general_midi import instrument_of
from tutti.datasets.scores.soundfonts import Soundfont, find_soundfonts, open_soundfonts
from tutti.pipelines.embedders.builtin import RECIPE, WEIGHTS, TimbreNet
from tutti.pipelines.embedders.front_end import CONFIG
from tutti.pipelines.embedders.logmel import LogMelEmbedder
from tutti.pipelines.render.training_set import PROGRAMS, SEED, excerpts

INSTRUMENTS = tuple(sorted({name for program in PROGRAMS if (name := instrument_of(program))}))
SAVE_EVERY = 100  # steps
CROP_FRAMES = 100  # of an excerpt are learned from at a time, 2 s: a third less work, and time is pooled anyway
MEASURED = 384  # held-out mixtures that a measurement is made on
HELD_OUT = 10  # one excerpt in so many is for validation: pairs of one piece stay together


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the optimization; tried on renderings alone, never on real recordings."""

    steps: int = 1_400
    batch_size: int = 64
    learning_rate: float = 3e-3  # of AdamW at its peak, one cycle
    weight_decay: float = 1e-2
    label_smoothing: float = 0.1
    instrument_weight: float = 4.0  # of the loss of what sounds, against that of what is loudest
    seed: int = SEED


@dataclass(frozen=True, eq=False)
class Excerpts:
    """The training set."""

    logmel: NDArray[np.float16]  # (N, F, M), dB
    program: NDArray[np.int64]  # (N,), index into PROGRAMS
    fonts: tuple[str, ...]

    def take(self, rows: NDArray[np.int64], first: int) -> Tensor:
        """Take some excerpts from a frame on, (len(rows), CROP_FRAMES, M) float32."""
        return torch.from_numpy(self.logmel[rows, first : first + CROP_FRAMES].astype(np.float32))


def read_excerpts(folder: Path) -> Excerpts:
    """Read all files that `training_set` wrote.

    Raises:
        UsageError: there are none.
    """
    index = {program: number for number, program in enumerate(PROGRAMS)}
    files = sorted(folder.glob("*-*.npy"))
    if not files:
        raise UsageError(f"{folder}: holds no excerpts; run pipelines.render.training_set first")
    arrays = [np.load(file) for file in files]
    programs = [np.full(len(a), index[int(f.name.split("-")[0])]) for f, a in zip(files, arrays, strict=True)]
    fonts = sorted({file.stem.split("-")[1] for file in files})
    return Excerpts(np.concatenate(arrays), np.concatenate(programs), tuple(fonts))


def split_rows(data: Excerpts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows into those for training and for validation."""
    rows = np.arange(len(data.program))
    held = rows // 2 % HELD_OUT == 0
    return rows[~held], rows[held]


class Sampler:
    """Draws rows so that instruments, then programs, come up alike."""

    def __init__(self, data: Excerpts, rows: NDArray[np.int64]) -> None:
        names = [instrument_of(PROGRAMS[program]) or "others" for program in data.program[rows]]
        programs, counts = np.unique(data.program[rows], return_counts=True)
        of_program = dict(zip(programs.tolist(), counts.tolist(), strict=True))
        in_class: dict[str, set[int]] = {}
        for name, program in zip(names, data.program[rows].tolist(), strict=True):
            in_class.setdefault(name, set()).add(program)
        weights = [
            class_weight(name) / len(in_class[name]) / of_program[program]
            for name, program in zip(names, data.program[rows].tolist(), strict=True)
        ]
        self._rows, self._weights = rows, np.array(weights) / np.sum(weights)

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw rows of the data."""
        chosen: NDArray[np.int64] = rng.choice(self._rows, count, p=self._weights)
        return chosen


def class_weight(name: str) -> float:
    """Weight a class: programs without one are many kinds of instruments, so threefold; synthesizers twofold."""
    return {"others": 3.0, "synthesizer": 2.0}.get(name, 1.0)


def batch_of(data: Excerpts, sampler: Sampler, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw mixtures in dB (B, F, M), index of the loudest program (B,), instruments (B, I)."""
    num_voices = rng.choice([1, 2, 3], size, p=[0.4, 0.35, 0.25])
    rows = sampler.draw(3 * size, rng).reshape(3, size)
    gain_db = np.stack([np.zeros(size), rng.uniform(-18, -2, size), rng.uniform(-18, -4, size)])
    power_BFM = torch.zeros(size, CROP_FRAMES, data.logmel.shape[2])
    present_BI = torch.zeros(size, len(INSTRUMENTS))
    for voice in range(3):
        sounding = num_voices > voice
        level_db = np.where(sounding, gain_db[voice], -200.0)
        first = int(rng.integers(data.logmel.shape[1] - CROP_FRAMES + 1))
        voice_BFM = data.take(rows[voice], first)
        power_BFM += 10 ** ((voice_BFM + torch.from_numpy(level_db).float()[:, None, None]) / 10)
        for example in np.flatnonzero(sounding):
            name = instrument_of(PROGRAMS[data.program[rows[voice][example]]])
            if name is not None:
                present_BI[example, INSTRUMENTS.index(name)] = 1.0
    return degraded(power_BFM, rng), torch.from_numpy(data.program[rows[0]]), present_BI


def degraded(power_BFM: Tensor, rng: np.random.Generator) -> Tensor:
    """Convert powers to dB, through what separates sample libraries from recordings.

    Equalizer, noise, low-pass, depth.
    """
    size, num_frames, num_mels = power_BFM.shape
    knots = torch.from_numpy(rng.normal(0, 4.0, (size, 1, 6))).float()
    equalizer_BM = F.interpolate(knots, num_mels, mode="linear", align_corners=True)[:, 0]
    level_db = 10 * torch.log10(power_BFM.clamp(min=1e-9)) + equalizer_BM[:, None]
    top_B11 = level_db.amax(dim=(1, 2), keepdim=True)
    noise_db = torch.from_numpy(rng.uniform(-85, -35, size)).float()[:, None, None] + top_B11
    tilt = torch.from_numpy(rng.uniform(-12, 6, size)).float()[:, None, None] * torch.linspace(0, 1, num_mels)
    flutter = 2 * torch.from_numpy(rng.standard_normal((size, num_frames, num_mels), dtype=np.float32))
    level_db = 10 * torch.log10(10 ** (level_db / 10) + 10 ** ((noise_db + tilt + flutter) / 10))
    cut_B = np.where(rng.random(size) < 0.25, rng.integers(num_mels // 2, num_mels, size), num_mels)
    silent = torch.arange(num_mels)[None] >= torch.from_numpy(cut_B)[:, None]
    level_db = torch.where(silent[:, None], level_db.amin(dim=(1, 2), keepdim=True), level_db)
    depth_B11 = torch.from_numpy(rng.uniform(45, 80, size)).float()[:, None, None]
    return torch.maximum(level_db, level_db.amax(dim=(1, 2), keepdim=True) - depth_B11)


def loss_of(net: TimbreNet, batch: tuple[Tensor, Tensor, Tensor], config: TrainConfig) -> Tensor:
    """Compute cross-entropy of the loudest program, plus binary cross-entropy of each instrument."""
    logmel_BFM, program_B, present_BI = batch
    program_BP, instrument_BI = net(logmel_BFM)
    loudest = F.cross_entropy(program_BP, program_B, label_smoothing=config.label_smoothing)
    sounding = F.binary_cross_entropy_with_logits(instrument_BI, present_BI)
    return loudest + config.instrument_weight * sounding


def measure(net: TimbreNet, data: Excerpts, rows: NDArray[np.int64], config: TrainConfig) -> dict[str, float]:
    """Measure accuracy on held-out mixtures: of the loudest program, and of its instrument where it has a class."""
    net.eval()
    sampler, rng = Sampler(data, rows), np.random.default_rng(0)
    right = right_class = total = classed = 0
    names = [instrument_of(program) for program in PROGRAMS]
    with torch.inference_mode():
        for _ in range(MEASURED // config.batch_size):
            logmel, program, _ = batch_of(data, sampler, config.batch_size, rng)
            guess = net(logmel)[0].argmax(1)
            right += int((guess == program).sum())
            total += len(program)
            for a, b in zip(guess.tolist(), program.tolist(), strict=True):
                classed += names[b] is not None
                right_class += names[b] is not None and names[a] == names[b]
    net.train()
    return {"program": round(right / total, 4), "instrument": round(right_class / classed, 4)}


def train(data: Excerpts, config: TrainConfig, state_path: Path) -> tuple[TimbreNet, dict[str, float]]:
    """Train the net; goes on from the state where there is one."""
    torch.manual_seed(config.seed)  # of the first weights, the only draw of torch
    net = TimbreNet(len(PROGRAMS), len(INSTRUMENTS)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.15
    )
    first = 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]
    training, validation = split_rows(data)
    sampler, start_s, losses = Sampler(data, training), time.perf_counter(), []
    net.train()
    for step in range(first, config.steps):
        batch = batch_of(data, sampler, config.batch_size, np.random.default_rng([config.seed, step]))
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(net, batch, config)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % SAVE_EVERY == 0:
            states: dict[str, Any] = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(states | {"schedule": schedule.state_dict(), "step": step + 1}, state_path)
            figures = measure(net, data, validation, config)
            line = {"step": step + 1, "loss": round(float(np.mean(losses[-SAVE_EVERY:])), 4), **figures}
            print(json.dumps(line | {"seconds": round(time.perf_counter() - start_s)}), file=sys.stderr, flush=True)
    return net.eval(), measure(net, data, validation, config)


def logmel_statistics(fonts: Sequence[Soundfont], pieces: int = 2) -> dict[str, list[float]]:
    """Compute mean and spread of the statistics of `logmel.py` over dry renderings of all programs."""
    embedder = LogMelEmbedder()
    rows = [
        embedder.embed(list(excerpts(program, font, index)))
        for program in PROGRAMS
        for font in fonts
        for index in range(pieces)
    ]
    table = np.concatenate(rows).astype(np.float64)
    spread = np.maximum(table.std(axis=0), 1e-3)
    return {name: [float(f"{x:.6g}") for x in row] for name, row in (("center", table.mean(0)), ("scale", spread))}


def publish(
    net: TimbreNet, config: TrainConfig, data: Excerpts, figures: dict[str, float],
    statistics: dict[str, list[float]], folder: Path,
) -> None:  # fmt: skip
    """Write weights as float32, and their recipe."""
    net.eval()
    content = save_safetensors({name: value.contiguous() for name, value in net.state_dict().items()})
    recipe = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "dimension": net.project.out_features,
        "parameters": sum(value.numel() for value in net.parameters()),
        "programs": list(PROGRAMS),
        "instruments": list(INSTRUMENTS),
        "front_end": vars(CONFIG),
        "training": asdict(config),
        "data": {
            "seed": SEED,
            "excerpts": len(data.program),
            "excerpts_of_programs": np.bincount(data.program, minlength=len(PROGRAMS)).tolist(),
            "soundfonts": list(data.fonts),
        },
        "held_out_accuracy": figures,
        "logmel": statistics,
    }
    write_file(folder / WEIGHTS, content)
    write_file(folder / RECIPE, (json.dumps(recipe, indent=1, sort_keys=True) + "\n").encode())


def main(argv: Sequence[str]) -> int:
    """Train and publish."""
    return run_command(_command, argv)


def _command(argv: Sequence[str]) -> int:
    parser = Parser("python -m pipelines.render.train_embedder", __doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--soundfont", type=Path, action="append", default=[])
    parser.add_argument("--steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    data = read_excerpts(arguments.data)
    config = TrainConfig(steps=arguments.steps)
    arguments.output.mkdir(parents=True, exist_ok=True)
    net, figures = train(data, config, arguments.output / "state.pt")
    fonts = open_soundfonts(arguments.soundfont) if arguments.soundfont else find_soundfonts()
    publish(net, config, data, figures, logmel_statistics(fonts), arguments.output)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
