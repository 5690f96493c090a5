"""Summaries of clips with songs, partitions and audio, and the splits that they are given."""

from tutti.datasets.record import PRESENT, UNKNOWN
from tutti.pipelines.curation.split_rules import SplitConfig
from tutti.pipelines.rows import ClipSummary, Curation, Match
from tutti.pipelines.stages.split import plan_split

CLASSES = ("cello", "voice")
HALF = {"train": 0.5, "validation": 0.5}
OFFICIAL = SplitConfig(rules={"s/train": "train", "s/test": "test", "s/valid": "validation", "s/pool": HALF})


def summary(id, partition="pool", group=None, pcm=None, presence=(PRESENT, UNKNOWN), source="s"):
    return ClipSummary(id, source, partition, group or f"song of {id}", pcm or f"audio of {id}", presence)


def planned(clips, config=OFFICIAL, seed=0, near=()):
    matches = tuple(Match(*sorted(pair), 0.0, 3.0, 1.0, 0.9) for pair in near)
    return plan_split(Curation(clips, matches=matches), config=config, instruments=CLASSES, seed=seed)


def splits(clips, config=OFFICIAL, seed=0, near=()):
    return {a.id: a.split or a.reason for a in planned(clips, config, seed, near).assignments}
