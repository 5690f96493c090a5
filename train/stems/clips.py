"""Mixtures as training reads clips: an epoch of fresh ones, or a fixed set of musical ones.

    train = open_mixtures(data, "train", recipe_level, config, num_samples, seed)
    for window_BT, presence_BC in train.batches(train.draws(epoch, batch_size), ...): ...
    validation = fixed_clips(open_mixtures(...), num, unit, front_end)          ordinary `Clips`

A mixture has a number of its own, epoch * mixes_per_epoch + index; so a run goes on at any step.
Shapes: B mixtures of a batch, T samples, C classes, F frames, M mel bands.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutti.datasets.audio import to_int16
from tutti.train.clips import Clips, Unit
from tutti.train.data import MAX_THREADS, Data, tier_of
from tutti.train.reading.hot_copy import hot_copy
from tutti.train.reading.order import Draws, Indices, in_sequence
from tutti.train.reading.resident import on_device
from tutti.train.reading.shards import SplitTable, in_order
from tutti.train.reading.split import read_table
from tutti.train.run_recipe import RunRecipe
from tutti.train.stems.audio import ResidentStems, StemAudio, StreamedStems
from tutti.train.stems.config import MixingConfig
from tutti.train.stems.mixer import Level, Mixer
from tutti.train.stems.plan import Sampler
from tutti.train.stems.songs import Stems, read_stems

_LABELED = 2048  # mixtures whose labels stand for all of them: no audio is read for these
_MEASURED = 256  # mixtures that statistics of frames are taken of
_AHEAD = 2  # batches that are mixed before they are taken
_AT_ONCE = 32  # mixtures of a fixed set
_FIXED_SEED, _FIXED_EPOCH = 0, 0  # of the fixed sets: the same for every run


@dataclass(frozen=True, eq=False)
class Mixtures:
    """Endless mixtures of a split, so many an epoch."""

    mixer: Mixer
    num_mixes: int  # of an epoch
    num_threads: int = 0  # that mix ahead; 0: a batch is mixed when it is taken
    unit: Unit = "samples"
    row_groups: Indices | None = None

    def __len__(self) -> int:
        return self.num_mixes

    @property
    def device(self) -> torch.device:
        """The device on which windows appear."""
        return self.mixer.device

    @property
    def streamed(self) -> bool:
        """Whether stems are read from the shards when they are mixed."""
        return self.mixer.audio.streamed

    @functools.cached_property
    def known_labels(self) -> NDArray[np.int8]:
        """Presence (N, C) of the first mixtures: what classes there are to learn, and how often."""
        number = min(self.num_mixes, _LABELED)
        return np.stack([self.mixer.sampler.draw(0, index).presence for index in range(number)])

    @property
    def presence(self) -> Tensor:
        """The same on the device."""
        return torch.from_numpy(self.known_labels).to(self.device)

    @property
    def groups(self) -> tuple[str, ...]:
        """No song: mixtures are made of many."""
        return ("",) * len(self)

    @property
    def lengths(self) -> Tensor:
        """(N,) int64: samples."""
        return torch.full((len(self),), self.mixer.sampler.num_samples, dtype=torch.int64)

    def draws(self, epoch: int, batch_size: int) -> Draws:
        """Draw an epoch's mixtures in order, by their numbers."""
        numbers = epoch * self.num_mixes + np.arange(self.num_mixes)
        return in_sequence(numbers, np.zeros_like(numbers), batch_size)

    def batches(
        self, draws: Draws, length: int, last: str = "zero", *, start_step: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield presence (B, C) and windows (B, T) of each step, from `start_step` on.

        Raises:
            IntegrityError: a stem is not what its row says; the message names shard and clip.
        """
        steps = [draws.clips[draws.step(step)].tolist() for step in range(start_step, draws.num_steps)]
        if not self.num_threads:
            for numbers in steps:
                window_BT, presence_BC = self.mixer.batch([divmod(number, self.num_mixes) for number in numbers])
                yield presence_BC, window_BT
            return
        each = [[divmod(number, self.num_mixes)] for numbers in steps for number in numbers]
        ahead = _AHEAD * max(map(len, steps), default=1)
        made = in_order(self.mixer.batch, each, num_threads=self.num_threads, ahead=ahead)
        for numbers in steps:
            windows, presences = zip(*(next(made) for _ in numbers), strict=True)
            yield torch.cat(presences), torch.cat(windows)

    def frames(self, front_end: nn.Module) -> Iterator[Tensor]:
        """Compute the frames (F, M) float16 of the first mixtures: enough to measure levels."""
        for window_BT in self.first_windows(min(len(self), _MEASURED)):
            with torch.inference_mode():
                yield from front_end(window_BT).half()

    def first_windows(self, number: int) -> Iterator[Tensor]:
        """Make the first mixtures of epoch 0: windows (B, T) of a few at a time."""
        draws = in_sequence(np.arange(number), np.zeros(number, np.int64), _AT_ONCE)
        yield from (window_BT for _, window_BT in self.batches(draws, 0))


def open_mixtures(
    data: Data,
    split: str,
    table: SplitTable,
    recipe: RunRecipe,
    config: MixingConfig,
    *,
    seed: int,
    with_effects: bool = True,
) -> Mixtures:
    """Open the stems of a split to be mixed.

    Args:
        data: of which version.
        split: its name.
        table: what the shards say of it.
        recipe: window, loudness, tier.
        config: how to mix.
        seed: of the mixtures.
        with_effects: off: stems as they are.

    Raises:
        UsageError: the split has no stems.
        IntegrityError: the data are damaged.
        StorageError: the hot copy cannot be written.
    """
    stems = read_stems(table, data.manifest)
    sampler = Sampler(stems, config, recipe.num_samples(recipe.window_s), recipe.sample_rate, seed)
    level = Level(recipe.sample_rate, recipe.target_lufs, recipe.max_gain_db)
    audio = _audio(data, split, table, recipe)
    gain_db_S = torch.from_numpy(_gain_db(table, stems, config, recipe))
    mixer = Mixer(audio, sampler, gain_db_S, level, data.device, with_effects=with_effects)
    threads = min(torch.get_num_threads(), MAX_THREADS) if audio.streamed else 0
    return Mixtures(mixer, config.mixes_per_epoch, threads)


def _audio(data: Data, split: str, table: SplitTable, recipe: RunRecipe) -> StemAudio:
    if tier_of(table, "samples", recipe, data) == "streaming":
        return StreamedStems(table)
    audio = (
        read_table(table) if data.hot_copies is None else hot_copy(data.manifest, split, data.hot_copies, table=table)
    )
    return ResidentStems(on_device(audio.samples, data.device), torch.from_numpy(table.offsets).to(data.device))


def _gain_db(table: SplitTable, stems: Stems, config: MixingConfig, recipe: RunRecipe) -> NDArray[np.float32]:
    """Compute the gain (S,) of each stem: the build's taken off, or what makes all equally loud."""
    if config.levels == "upstream":
        undone: NDArray[np.float32] = -table.gain_db[stems.rows]
        return undone
    wanted = np.minimum(recipe.target_lufs - table.loudness_lufs[stems.rows], recipe.max_gain_db)
    gains: NDArray[np.float32] = np.nan_to_num(wanted, nan=0.0).astype(np.float32)
    return gains


def musical_only(config: MixingConfig, num_mixes: int) -> MixingConfig:
    """Choose the mixtures of validation and test: as real recordings are."""
    return replace(config, p_musical=1.0, mixes_per_epoch=num_mixes)


def open_fixed(
    data: Data, split: str, table: SplitTable, recipe: RunRecipe, config: MixingConfig, num_mixes: int
) -> Mixtures:
    """Open mixtures of a split that are musical only, without effects, and the same ones for every run."""
    musical = musical_only(config, num_mixes)
    return open_mixtures(data, split, table, recipe, musical, seed=_FIXED_SEED, with_effects=False)


def fixed_clips(mixtures: Mixtures, unit: Unit, front_end: nn.Module | None, fill: float) -> Clips:
    """Make the mixtures of an epoch, and keep them as clips: frames where the front end makes some, else samples.

    Args:
        mixtures: of which the first epoch is taken.
        unit: of the clips.
        front_end: from waveforms (B, T) to frames (B, F, M); only for frames.
        fill: of silence, in frames.
    """
    device, sampler, parts = mixtures.device, mixtures.mixer.sampler, []
    for window_BT in mixtures.first_windows(len(mixtures)):
        if unit == "frames" and front_end is not None:
            with torch.inference_mode():
                parts.append(front_end(window_BT).half().flatten(0, 1).to(device))
        else:
            parts.append(torch.from_numpy(to_int16(window_BT.cpu().numpy())).flatten().to(device))
    mixes = [sampler.draw(_FIXED_EPOCH, index) for index in range(len(mixtures))]
    values = torch.cat(parts)
    length = len(values) // len(mixtures)
    starts_N = torch.arange(len(mixtures), device=device) * length
    song = {
        int(stem): name
        for name, part in zip(sampler.stems.songs, sampler.stems.stems_of_song, strict=True)
        for stem in part
    }
    return Clips(
        values,
        starts_N,
        torch.full_like(starts_N, length),
        torch.from_numpy(np.stack([mix.presence for mix in mixes])).to(device),
        tuple(song[int(mix.stems[0])] for mix in mixes),
        unit,
        None if unit == "frames" else torch.ones(len(mixtures), device=device),
        fill,
    )
