"""Notes: which notes sound when, and which instrument plays them (Hung, Chen, Yang 2019).

Shapes: N clips, B windows of a batch, W frames of a window, Q bins, I instruments.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from tutti.datasets.audibility import Downmix
from tutti.datasets.record import PRESENT
from tutti.datasets.scores.score import is_our_midi
from tutti.datasets.targets import IsOurs, is_our_picture
from tutti.datasets.typed_json import object_of, read_as
from tutti.train.chunking import Chunking, plan_chunks
from tutti.train.clips import AnyClips
from tutti.train.data import Data, share_of_songs
from tutti.train.features import Standardization, standardization
from tutti.train.features.cqt import Cqt
from tutti.train.fitting import distributed
from tutti.train.notes import transcription
from tutti.train.notes.clips import ScoredClips, instruments_of, load_scored_clips
from tutti.train.notes.losses import NotesLoss, RollLogits, class_weights
from tutti.train.notes.recipe import NotesRecipe
from tutti.train.notes.rolls import UNPITCHED, Rolls
from tutti.train.notes.scores import Tally, Thresholds, best_thresholds, notes_intervals, notes_report
from tutti.train.notes.unet import NotesTagger, Unet
from tutti.train.reading.order import Draws, Indices, in_sequence
from tutti.train.scoring.bootstrap import Interval
from tutti.train.scoring.report import figure, interval_lines
from tutti.train.task import Figures, Material, Report, Task

MIN_STD = {"db": 1.0, "magnitude": 1e-3}  # a bin that hardly moves must not become noise; 1e-3: -60 dB


class Windows(NamedTuple):
    """Windows of some clips, and where they begin."""

    clips: Tensor  # (B,) int64
    first: Tensor  # (B,) int64: frames of the clip
    cqt: Tensor  # (B, W, Q) float32


@dataclass(frozen=True)
class NotesOutputs:
    """Probabilities of a split against its notes, as histograms."""

    tally: Tally
    groups: tuple[str, ...]  # (N,): the song of each clip


@dataclass(frozen=True)
class Notes(Task[ScoredClips, NotesOutputs, Thresholds, NotesTagger]):
    """Pianorolls of clips, instrument by instrument."""

    recipe: NotesRecipe
    instruments: tuple[str, ...]

    compared: ClassVar[tuple[str, ...]] = ("instrument_macro_f1", "pitch_accuracy", "roll_accuracy", "second_auc")
    shown: ClassVar[dict[str, str]] = {
        "loss": "train_loss",
        "instrument macro F1": "instrument_macro_f1",
        "pitch accuracy": "pitch_accuracy",
        "roll accuracy": "roll_accuracy",
        "second AUC": "second_auc",
    }
    pictures: ClassVar[dict[str, IsOurs]] = {".png": is_our_picture, ".mid": is_our_midi}

    # --- data

    @classmethod
    def of(cls, recipe: NotesRecipe, data: Data) -> Self:
        """Take the classes that the recipe names, or all that play in the training split."""
        return cls(recipe, instruments_of(data, recipe))

    def load(self, data: Data) -> Material[ScoredClips]:
        """Open the training and the validation split, and take statistics of the training split's CQT."""
        train, validation = (self.load_split(data, split) for split in ("train", "validation"))
        frames = train.audio.frames(Cqt(self.recipe.cqt).to(data.device))
        statistics = standardization(frames, min_std=MIN_STD[self.recipe.cqt.scale])
        return Material(train, validation, self.chosen(train), statistics)

    def load_split(self, data: Data, split: str) -> ScoredClips:
        """Open the clips of a split that have a score.

        The data may have other classes than the run: instruments are found by name, and notes of others
        sound without counting for or against anyone but the instruments that are taken for them.
        """
        return load_scored_clips(data, split, self.recipe, self.instruments)

    def clips(self, split: ScoredClips) -> AnyClips:
        """Select the audio."""
        return split.audio

    def chosen(self, split: ScoredClips) -> Indices:
        """Select clips with a score, of a share of the songs."""
        return share_of_songs(split.scored, split.audio.groups, self.recipe.train_share, self.recipe.seed)

    def batches(self, split: ScoredClips, draws: Draws, start_step: int = 0) -> Iterator[Windows]:
        """Read the windows of each step, from `start_step` on."""
        length = self.recipe.window_frames
        read = split.audio.batches(draws, length, self.recipe.last, start_step=start_step)
        for step, (clips_B, cqt_BWQ) in enumerate(read, start_step):
            yield Windows(clips_B, torch.from_numpy(draws.first[draws.step(step)]).to(cqt_BWQ.device), cqt_BWQ)

    # --- network

    def network(self) -> nn.Module:
        """Build the U-net; the caller seeds torch."""
        return Unet(self.recipe.model_config, len(self.instruments))

    def build(self, statistics: Standardization | None) -> NotesTagger:
        """Build a fresh U-net behind standardization; the caller seeds torch."""
        network, compute = self.network(), self.recipe.compute
        if compute.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        pitched_I = torch.tensor([name not in UNPITCHED for name in self.instruments])
        plain = statistics or Standardization((0.0,), (1.0,))
        return NotesTagger(network, self.recipe.model_config, pitched_I, plain, bf16=compute.precision == "bf16").eval()

    def step(self, tagger: NotesTagger, module: nn.Module, material: Material[ScoredClips]) -> "NotesStep":
        """Prepare training steps."""
        return NotesStep(module, material.train, self.recipe.loss, self.class_weights(material))

    def class_weights(self, material: Material[ScoredClips]) -> Tensor:
        """Weight the instruments (I,) by how often they sound in the clips that are learned from."""
        clips, power = material.train, self.recipe.loss.class_power
        device = clips.audio.device
        sounding = torch.zeros(len(self.instruments), dtype=torch.int64, device=device)
        if power:
            for clip in material.chosen.tolist():  # one at a time: a whole song may be long
                clip_1 = torch.tensor([clip], device=device)
                rolls = clips.rolls(clip_1, torch.zeros_like(clip_1), int(clips.audio.lengths[clip]))
                sounding += (rolls.instrument[0] == PRESENT).sum(dim=1)
        return class_weights(sounding.tolist(), power).to(device)

    # --- figures

    def score_split(self, tagger: NotesTagger, split: ScoredClips) -> NotesOutputs:
        """Run the network over whole clips, window by window, and count cells against their notes."""
        recipe, device, scored = self.recipe, tagger.device, split.scored
        lengths = split.audio.lengths.cpu().numpy()[scored]
        plan = plan_chunks(lengths, Chunking(recipe.window_frames, last="zero"))
        tally = Tally((lengths * split.hop_s).tolist(), len(self.instruments), device)
        within_W = torch.arange(recipe.window_frames, device=device)
        draws = in_sequence(scored[plan.clips], plan.first, recipe.batch_size)
        tagger.eval()
        for step, (clips_B, first_B, cqt_BWQ) in enumerate(self.batches(split, draws)):
            probability = transcription.probabilities(tagger, cqt_BWQ)
            valid_BW = first_B[:, None] + within_W < split.audio.lengths[clips_B][:, None]
            rows_B = torch.from_numpy(plan.clips[draws.step(step)]).to(device)
            rolls = split.rolls(clips_B, first_B, recipe.window_frames)
            tally.add(probability, rolls, valid_BW, rows_B, first_B, split.hop_s)
        return NotesOutputs(tally, tuple(split.audio.groups[clip] for clip in scored))

    def figures(self, outputs: NotesOutputs) -> Figures:
        """Score an epoch at the thresholds that suit it best."""
        model: Figures = self.report(outputs, best_thresholds(outputs.tally))["model"]
        return model

    def score(self, figures: Figures) -> float | None:
        """Average the figures of what is learned; None: one is unknown, or the last epoch is wanted."""
        if self.recipe.select_by == "last":
            return None
        names = {"roll": "roll_accuracy", "pitch": "pitch_accuracy", "instrument": "instrument_macro_f1"}
        values = [figures[names[term]] for term in self.recipe.loss.terms]
        return None if None in values else sum(values) / len(values)

    def thresholds(self, tagger: NotesTagger, data: Data, outputs: NotesOutputs) -> Thresholds:
        """Find the thresholds that suit the validation split best."""
        return best_thresholds(outputs.tally)

    def report(self, outputs: NotesOutputs, thresholds: Thresholds) -> Report:
        """Score a split."""
        return notes_report(outputs.tally, thresholds, self.instruments)

    def intervals(self, outputs: NotesOutputs, thresholds: Thresholds, num_resamples: int) -> dict[str, Interval]:
        """Compute intervals of the figures over resampled songs."""
        return notes_intervals(outputs.tally, thresholds, outputs.groups, num_resamples)

    def table(self, report: Report, title: str) -> str:
        """Write two tables: model against a predictor for which everything sounds, and the instruments."""
        lines = [f"{title}: {report['num_clips']} clips", "", f"{'':24}{'model':>8}{'all sounds':>12}"]
        for name, value in report["model"].items():
            constant = report["constant"].get(name)
            lines.append(f"{name.replace('_', ' '):24}{figure(value):>8}{figure(constant):>12}")
        names = ("precision", "recall", "f1", "roll_accuracy", "second_auc")
        lines += ["", f"{'':24}{'P':>8}{'R':>8}{'F1':>8}{'roll':>8}{'AUC':>8}{'frames':>9}"]
        for instrument, row in report["per_instrument"].items():
            lines.append(f"{instrument:24}{''.join(f'{figure(row[name]):>8}' for name in names)}{row['frames']:>9}")
        return "\n".join(lines + interval_lines(report, {name: name.replace("_", " ") for name in self.compared}))

    # --- runs and files

    def thresholds_to_json(self, thresholds: Thresholds) -> dict[str, Any]:
        """Write the thresholds of pianoroll and pitches, and of each instrument by its name."""
        by_name = dict(zip(self.instruments, thresholds.instrument, strict=True))
        return asdict(thresholds) | {"instrument": by_name}

    def thresholds_from_json(self, content: Any) -> Thresholds:
        """Read what `thresholds_to_json` wrote."""
        found = object_of(content, "thresholds")
        roll, pitch = (float(read_as(float, found[name], f"thresholds.{name}")) for name in ("roll", "pitch"))
        by_name = object_of(found["instrument"], "thresholds.instrument")
        values = [read_as(float, by_name[name], f"thresholds.instrument.{name}") for name in self.instruments]
        return Thresholds(roll, pitch, tuple(map(float, values)))

    def refusal(self, csv: Path | None) -> str | None:
        """Refuse a table of notes; files can always be heard."""
        if csv is None:
            return None
        return "hears notes; --plot DIR writes them as MIDI and piano roll, --json as text"

    def predict(
        self,
        tagger: NotesTagger,
        thresholds: Thresholds,
        path: Path,
        base: Path | None = None,
        downmix: Downmix = "mean",
    ) -> dict[str, Any]:
        """Write down the notes of one file; with `base` also as BASE.mid and BASE.png."""
        return transcription.transcribe(path, tagger, self.recipe, thresholds, self.instruments, base, downmix)

    def text(self, result: dict[str, Any]) -> str:
        """Write a file's instruments, the one that is heard longest first, and when."""
        return transcription.as_text(result)


@dataclass(frozen=True)
class NotesStep:
    """Everything that one step needs but the state that it changes."""

    module: nn.Module  # the tagger, as it is or wrapped for several processes
    clips: ScoredClips
    loss: NotesLoss
    weight_of_instrument: Tensor  # (I,)

    def __call__(self, batch: Windows, epoch: int, number: int) -> Tensor:
        """Compute the loss of a batch, with a graph."""
        size, rows = len(batch.clips), distributed.own_rows(len(batch.clips))
        if rows is not None:
            batch = Windows(*(part[rows.to(part.device)] for part in batch))
        rolls: Rolls = self.clips.rolls(batch.clips, batch.first, batch.cqt.shape[1])
        logits: RollLogits = self.module(batch.cqt)
        loss: Tensor = self.loss(logits, rolls, self.weight_of_instrument)
        # A mean over our examples: the mean over processes is that of the batch where each counts by its examples.
        return loss * (len(batch.clips) * distributed.world_size() / size)
