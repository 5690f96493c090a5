"""Human corrections of labels: a CSV file that a person can write, read and undo line by line.

    id,instrument,presence,note
    irmas/IRMAS-TrainingData/cel/song__1.wav@0,cello,0,it is a viola
    irmas/IRMAS-TrainingData/cel/song__1.wav@0,piano,1,
    irmas/IRMAS-TrainingData/cel/song__1.wav@0,voice,,a synthesizer perhaps

Presence: 1 present, 0 absent, empty unknown. `python -m pipelines.relabel score --overrides FILE` writes one.
"""

import bisect
import csv
import io
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutti.datasets.csv_cells import plain_cell, safe_row
from tutti.datasets.errors import UsageError
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN, Label, Labels
from tutti.datasets.settings import nearest
from tutti.datasets.user_text import nfc, read_text, table_rows

HEADER = ("id", "instrument", "presence", "note")
PRESENCES = {"1": PRESENT, "0": ABSENT, "": UNKNOWN}
TEXTS = {presence: text for text, presence in PRESENCES.items()}


@dataclass(frozen=True, slots=True)
class Override:
    """A person's word on one instrument in one clip."""

    id: str  # of the clip
    instrument: str
    presence: int  # PRESENT, ABSENT, or UNKNOWN: the given label is taken back
    note: str = ""


def apply_overrides(clip_id: str, labels: Labels, overrides: Sequence[Override]) -> Labels:
    """Apply corrections to the labels of a clip: origin "human", confidence None as for every human label.

    Args:
        clip_id: of the clip.
        labels: as given; never changed.
        overrides: of all clips, in the order of `ordered_overrides`: they are found by bisection.
    """
    changed = dict(labels)
    first = bisect.bisect_left(overrides, clip_id, key=_clip_id)
    for override in itertools.takewhile(lambda row: row.id == clip_id, itertools.islice(overrides, first, None)):
        changed.pop(override.instrument, None)
        if override.presence != UNKNOWN:
            changed[override.instrument] = Label(override.presence, "human")
    return changed


def ordered_overrides(overrides: Iterable[Override]) -> tuple[Override, ...]:
    """Sort corrections by clip and instrument: equal contents make equal recipes.

    Raises:
        UsageError: two of them speak about the same instrument of the same clip.
    """
    ordered = tuple(sorted(overrides, key=_key))
    for one, other in itertools.pairwise(ordered):
        if _key(one) == _key(other):
            raise UsageError(f"{one.id}: two overrides for {one.instrument}; keep one")
    return ordered


def unmatched_ids(overrides: Iterable[Override], clip_ids: Iterable[str]) -> tuple[str, ...]:
    """List ids that are corrected but that no clip has: misspelled, or no longer in the dataset; sorted."""
    wanted = {override.id for override in overrides}
    return tuple(sorted(wanted.difference(clip_ids)))


def read_overrides(path: Path, instruments: Collection[str] | None = None) -> tuple[Override, ...]:
    """Read the corrections in a CSV file, ordered.

    Args:
        path: of the file, UTF-8; the column `note` may be absent.
        instruments: classes of the dataset; a name that is none of them is an error. None: any name.

    Raises:
        UsageError: the file cannot be read, or a line cannot be understood; the message names the line.
    """
    text = read_text(path, f"{path}: not a readable UTF-8 file")
    lines: dict[tuple[str, str], int] = {}
    overrides = []
    for line, cells in _rows(path, text):
        override = _parse(cells, f"{path}:{line}", instruments)
        earlier = lines.setdefault(_key(override), line)
        if earlier != line:
            raise UsageError(
                f"{path}:{line}: {override.instrument} of {override.id} stands in line {earlier} already; keep one"
            )
        overrides.append(override)
    return ordered_overrides(overrides)


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of every row below the header that is not empty; the last line of a long one."""
    rows = table_rows(text, str(path))
    first, cells = next(rows, (1, []))
    header = tuple(cells)
    if header not in (HEADER, HEADER[:3]):
        raise UsageError(f"{path}:{first}: expected the header {','.join(HEADER)}, got {','.join(header) or 'nothing'}")
    for line, cells in rows:
        if len(cells) not in (len(header), len(HEADER[:3])):
            expected = f"expected {len(header)} cells, got {len(cells)}"
            raise UsageError(f"{path}:{line}: {expected}; put a cell that holds a comma in quotes")
        yield line, cells


def _parse(cells: Sequence[str], where: str, instruments: Collection[str] | None) -> Override:
    clip_id, instrument, presence, note = (plain_cell(cell.strip()) for cell in (*cells, "")[:4])
    if "@" not in clip_id:
        raise UsageError(f"{where}: {clip_id!r} is no id of a clip; expected source/key@start_ms as in the manifest")
    if not instrument:
        raise UsageError(f"{where}: the instrument is missing")
    if instruments is not None and instrument not in instruments:
        known = ", ".join(instruments)
        raise UsageError(f"{where}: no class {instrument!r}{nearest(instrument, instruments)}; known: {known}")
    if presence not in PRESENCES:
        raise UsageError(f"{where}: presence {presence!r}; expected 1 (present), 0 (absent) or nothing (unknown)")
    return Override(nfc(clip_id), instrument, PRESENCES[presence], note)


def overrides_csv(overrides: Iterable[Override]) -> str:
    """Format the corrections as a CSV file, ordered, LF."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for row in ordered_overrides(overrides):
        writer.writerow(safe_row((row.id, row.instrument, TEXTS[row.presence], " ".join(row.note.split()))))
    return text.getvalue()


def _clip_id(override: Override) -> str:
    return override.id


def _key(override: Override) -> tuple[str, str]:
    return override.id, override.instrument
