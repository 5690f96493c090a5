"""Decisions about planted wrong labels: the tables, and what curation decides of them, in a process of its own.

    python benchmarks/labels/noise.py TABLES.pickle DECISIONS.pickle       with PYTHONPATH at a checkout

Run so by `benchmarks.curation` for this checkout and for the one before, on the same tables. It imports nothing but the
curation of that checkout, whose functions have kept their names.
"""

import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tutti.pipelines.curation import outliers
from tutti.pipelines.curation.crossfit import Table
from tutti.pipelines.curation.outliers import OutlierConfig

Bools = NDArray[np.bool_]
CLIPS = 3  # of a song
DIMENSION = 48


class World(NamedTuple):
    """Gaussian clouds in place of embeddings, one for each class."""

    classes: int
    songs: int
    ratio: float  # of the largest class to the smallest
    noise: float  # of songs, against distances of about 10 between classes

    @property
    def title(self) -> str:
        """Name for the figures."""
        return f"{self.classes} classes, {self.songs} songs, 1:{self.ratio:g}, spread {self.noise:g}"


WORLDS = (
    World(2, 60, 1, 2.5), World(2, 120, 10, 1.5), World(5, 60, 1, 2.5), World(5, 150, 50, 1.2),
    World(11, 110, 1, 0.8), World(11, 110, 1, 1.6), World(11, 110, 1, 2.4), World(11, 150, 20, 1.2),
    World(20, 160, 1, 1.6),
)  # fmt: skip
NOISES = ((0.0, "song"), (0.05, "clip"), (0.1, "song"), (0.2, "clip"), (0.4, "song"))  # share mislabelled, unit


class Decision(NamedTuple):
    """Decision about every clip of a table; None where the corpus was not judged."""

    quality: NDArray[np.float64] | None
    dropped: Bools
    note: str = ""


def cloud(world: World, seed: int) -> Table:
    """Draw the clips of a world: one class each."""
    rng = np.random.default_rng(seed)
    shares = np.geomspace(1, 1 / world.ratio, world.classes)
    songs = np.maximum(3, np.rint(shares / shares.sum() * world.songs)).astype(int)
    label = np.repeat(np.repeat(np.arange(world.classes), songs), CLIPS)
    centers = rng.standard_normal((world.classes, DIMENSION))
    song = np.repeat(rng.standard_normal((songs.sum(), DIMENSION)), CLIPS, axis=0)
    rows = centers[label] + world.noise * (song + 0.5 * rng.standard_normal(song.shape))
    presence = np.where(label[:, None] == np.arange(world.classes), 1, -1).astype(np.int8)
    ids = tuple(f"irmas/{row:05}" for row in range(len(label)))
    return Table(ids, tuple(f"song {row // CLIPS:05}" for row in range(len(label))), rows.astype(np.float32), presence)


def mislabel(table: Table, share: float, unit: str, seed: int) -> tuple[Table, Bools]:
    """Put a share of a table's clips under a wrong label, by whole songs or clip by clip."""
    rng = np.random.default_rng(seed)
    presence, wrong = table.presence.copy(), np.zeros(len(table.ids), bool)
    keys = np.array(table.groups if unit == "song" else table.ids)
    used = np.flatnonzero((presence == 1).any(axis=0)).tolist()
    for key in rng.permutation(np.unique(keys)):
        if wrong.sum() >= share * len(keys):
            break
        rows = np.flatnonzero(keys == key)
        given = int(presence[rows[0]].argmax())
        other = int(rng.choice([column for column in used if column != given]))
        presence[rows, given], presence[rows, other] = presence[rows, other].copy(), 1
        wrong[rows] = True
    return replace(table, presence=presence), wrong


def planted(clean: Table, share: float, unit: str, seed: int) -> tuple[Table, Bools]:
    """Put wrong labels in a table; a share of 0 leaves it as it is."""
    return mislabel(clean, share, unit, 100 + seed) if share else (clean, np.zeros(len(clean.ids), bool))


def decide(table: Table, config: OutlierConfig | None = None) -> Decision:
    """Score a table that is its own sample, as `curate` does."""
    config, none = config or OutlierConfig(), np.zeros(len(table.ids), bool)
    try:
        models = outliers.fit(table, source="irmas+audioset", config=config, seed=0)
    except Exception as error:
        return Decision(None, none, f"{type(error).__name__}: {error}")
    if isinstance(models, outliers.Skipped):
        return Decision(None, none, models.note)
    scores = outliers.assess(models, table, outliers.score(models, table), config)
    cutoff = outliers.cutoff_of(models, config)
    dropped = [not outliers.judge(scores, row, cutoff).keep for row in range(len(table.ids))]
    return Decision(scores.quality, np.array(dropped))


def decisions(columns: Sequence[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Decide about tables that were pickled as plain columns, and measure the processor time."""
    for ids, groups, embeddings, presence in columns:
        start = time.process_time()
        decision = decide(Table(ids, groups, embeddings, presence))
        yield {**decision._asdict(), "processor_s": time.process_time() - start}


if __name__ == "__main__":
    given = pickle.loads(Path(sys.argv[1]).read_bytes())
    Path(sys.argv[2]).write_bytes(pickle.dumps(list(decisions(given))))
