"""The only place where pure functions meet Beam.

A stage applies a function `(row) -> row | rows` to every row. A rejected clip travels on in the
same collection; an unexpected exception rejects the clip as `error:<stage>`, but an error that
concerns the whole build (`TuttiError`, a full disk) ends it. What the machine lacked (memory, time,
processes) is no fault of the row: it is tried once more, then its clips are `pending`.

Only the portable subset of Beam is used: Create, ParDo, GroupByKey, Flatten. No tagged outputs,
nothing emitted from finish_bundle, every branch flattens into one leaf: the Dask runner drops
the rest silently.
"""

import gc
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import apache_beam as beam

from tutti.datasets.errors import StorageError, TryLaterError, TuttiError
from tutti.datasets.machine import MACHINE_REASONS, MachineError, machine_reason
from tutti.datasets.os_errors import storage_error
from tutti.datasets.record import Clip, Recording, Rejected
from tutti.datasets.streams import shield_stderr
from tutti.pipelines.cache.store import num_remembered
from tutti.pipelines.engine.heap import is_beam_worker, skip_final_gc
from tutti.pipelines.engine.progress import Reporter, reporter
from tutti.pipelines.rows import Song

Row: TypeAlias = Any


class Stage(beam.PTransform[Any, Any]):
    """Apply `function` to every row that is not rejected.

    Args:
        name: of the stage: the Beam label, the counter, the `stage` of rejected rows.
        function: one row in; one row, an iterable of rows, or None out.
        progress: the folder of the build's tallies.
        part: distinguishes steps of one stage: Beam's label is then "name: part".
        done: counts the clips that a row and its results finish; None: the row's own, at least one.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Row], Row | Iterable[Row] | None],
        progress: Path,
        *,
        part: str = "",
        done: Callable[[Row, list[Row]], int] | None = None,
    ) -> None:
        super().__init__(label=f"{name}: {part}" if part else name)
        self._do_fn = _Apply(name, function, progress, done or _clips_done)

    def expand(self, rows: Any) -> Any:
        """Apply the stage, as Beam's hook: rows in, rows out."""
        return rows | beam.ParDo(self._do_fn)


class _Apply(beam.DoFn):
    def __init__(
        self,
        name: str,
        function: Callable[[Row], Row | Iterable[Row] | None],
        progress: Path,
        done: Callable[[Row, list[Row]], int],
    ) -> None:
        self._name, self._function, self._progress, self._done = name, function, progress, done

    def setup(self) -> None:
        if is_beam_worker():
            skip_final_gc()
            shield_stderr()

    def process(self, row: Row) -> Iterator[Row]:
        if isinstance(row, Rejected):
            yield row
            return
        before = num_remembered(self._name)
        with self._reporter().measure(self._name, row) as tally:
            results = apply(self._name, self._function, row)
            tally.computed += num_remembered(self._name) - before
            tally.done += self._done(row, results)
            tally.rejected.update(result.reason for result in results if isinstance(result, Rejected))
        yield from results

    def finish_bundle(self) -> None:
        self._reporter().flush()

    def _reporter(self) -> Reporter:
        return reporter(self._progress)


def _clips_done(row: Row, _: list[Row]) -> int:
    return max(1, len(clips_of(row)))


def apply(name: str, function: Callable[[Row], Row | Iterable[Row] | None], row: Row) -> list[Row]:
    """Apply a stage to one row; an unexpected error rejects its clips, a need of the machine leaves them pending.

    Raises:
        TuttiError: the function found that the build cannot go on.
        StorageError: the disk is full or not writable.
        TryLaterError: the machine lacks memory, time or processes for a row that is no clip.
    """
    try:
        return _results(function, row)
    except Exception as error:
        if isinstance(error, (TuttiError, MachineError)) or machine_reason(error) is None:
            return _rejected(name, error, row)
    gc.collect()  # also what the exception held
    try:
        return _results(function, row)
    except Exception as error:
        return _rejected(name, error, row)


def _results(function: Callable[[Row], Row | Iterable[Row] | None], row: Row) -> list[Row]:
    results = function(row)
    if results is None:
        return []
    return list(results) if isinstance(results, (list, Iterator)) else [results]


def _rejected(name: str, error: Exception, row: Row) -> list[Row]:
    """Turn a row whose function raised into rejected or pending clips, or raise where it is no clip."""
    if isinstance(error, TuttiError):
        raise error
    clips = clips_of(row)
    if (reason := machine_reason(error)) is not None:
        if not clips:
            remedy = f"{MACHINE_REASONS[reason]}; then run the build again, it goes on where it was"
            raise TryLaterError(f"{name}: {reason.replace('_', ' ')} ({_described(error)}); {remedy}") from error
        return [pending(clip, name, reason, _described(error)) for clip in clips]
    if isinstance(error, OSError):
        raise StorageError(f"{name}: {storage_error(error, then='then run the build again')}") from error
    if not clips:
        raise error
    return [Rejected(clip, stage=name, reason=f"error:{name}", detail=_described(error)) for clip in clips]


def pending(clip: Clip, stage: str, reason: str, detail: str) -> Rejected:
    """Make the row of a clip that the machine could not process: another build tries again."""
    return Rejected(clip, stage=stage, reason=reason, detail=detail, status="pending")


def _described(error: Exception) -> str:
    """Describe an error without addresses in memory: rows are reproducible."""
    if isinstance(error, MachineError):
        return str(error)
    return re.sub(r" at 0x[0-9a-f]+", "", f"{type(error).__name__}: {error}")


def clips_of(row: Row) -> tuple[Clip, ...]:
    """List the clips that a row stands for; none for a row that is no clip."""
    if isinstance(row, (Recording, Song)):
        return row.clips
    return (row,) if isinstance(row, Clip) else ()


class Reshuffle(beam.PTransform[Any, Any]):
    """Hand rows to all workers, by a digest of their names: the same way every time.

    Args:
        name: of a row; by default that of a recording's first clip.
    """

    def __init__(self, name: Callable[[Row], str] | None = None) -> None:
        super().__init__()
        self._name = name or _first_id

    def expand(self, rows: Any) -> Any:
        """Spread rows over workers, as Beam's hook: rows in, the same out."""
        return rows | "key" >> beam.Map(_spread_key, self._name) | beam.GroupByKey() | "values" >> beam.FlatMap(_values)


def _first_id(row: Recording | Rejected) -> str:
    return row.clip.id if isinstance(row, Rejected) else row.clips[0].id


def _spread_key(row: Row, name: Callable[[Row], str]) -> tuple[str, Row]:
    return hashlib.sha256(name(row).encode()).hexdigest()[:4], row


def _values(keyed: tuple[Any, Iterable[Row]]) -> Iterable[Row]:
    return keyed[1]


class ToOneList(beam.PTransform[Any, Any]):
    """All rows as one list in one element, even where there are none: for small rows only."""

    def expand(self, rows: Any) -> Any:
        """Collect rows, as Beam's hook: rows in, one list out."""
        seed = rows.pipeline | "seed" >> beam.Create([None])
        return (
            (rows, seed)
            | beam.Flatten()
            | "one key" >> beam.Map(_one_key)
            | beam.GroupByKey()
            | "list" >> beam.Map(_listed)
        )


class JoinDecisions(beam.PTransform[Any, Any]):
    """Join clips with decisions made globally, many at a time: rows cross one shuffle, in a few large groups.

    Applied to a pair (rows, decisions); `function(key, rows, decisions)` sees all rows and decisions whose names have
    the same key. A decision that is a string is such a key.

    Args:
        key: of a name.
        function: one result per key.
        name: of a row or decision; by default the id of its clip, or its own.
    """

    def __init__(
        self,
        key: Callable[[str], str],
        function: Callable[[str, list[Row], list[Any]], Row],
        name: Callable[[Row], str] | None = None,
    ) -> None:
        super().__init__()
        self._key, self._function, self._name = key, function, name or _id_of

    def expand(self, pair: Any) -> Any:
        """Join, as Beam's hook: (rows, decisions) in, one result per key out."""
        rows, decisions = pair
        keyed = {
            "rows": rows | "key of row" >> beam.Map(_keyed, self._key, self._name),
            "decisions": decisions | "key of decision" >> beam.Map(_keyed, self._key, self._name),
        }
        return keyed | beam.CoGroupByKey() | "apply" >> beam.Map(_decided, self._function)


def _id_of(row: Row) -> str:
    return str(row.clip.id if isinstance(row, Rejected) else row.id)


def _keyed(row: Row, key: Callable[[str], str], name: Callable[[Row], str]) -> tuple[str, Row]:
    return (row, row) if isinstance(row, str) else (key(name(row)), row)


def _decided(joined: tuple[str, dict[str, Iterable[Row]]], function: Callable[[str, list[Row], list[Any]], Row]) -> Row:
    key, parts = joined
    return function(key, list(parts["rows"]), list(parts["decisions"]))


def _one_key(row: Row) -> tuple[int, Row]:
    return 0, row


def _listed(keyed: tuple[int, Iterable[Row]]) -> list[Row]:
    return [row for row in keyed[1] if row is not None]
