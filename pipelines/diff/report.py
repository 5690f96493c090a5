"""A difference as text for a terminal, and as Markdown for a pull request.

Both are made of the same sections: a heading, then either rows of a table or lines.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tutti.datasets.record import SPLITS
from tutti.pipelines.diff.difference import Balance, Difference, Relabelled, Setting, drift

SHOWN = 10  # clips of each kind; JSON has them all
SHOWN_CHARACTERS = 60  # of a setting
SHOWN_SHIFT = 0.005  # of an instrument's share of its split, where its count is as before

Table = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of a report; the first row of a table is its head."""

    title: str
    table: Table = ()
    lines: tuple[str, ...] = ()


def text(difference: Difference) -> str:
    """Format for a terminal."""
    parts = [_headline(difference)]
    for section in sections(difference):
        parts.append("\n".join([section.title, *_columns(section.table), *(f"  {line}" for line in section.lines)]))
    return "\n\n".join(parts)


def markdown(difference: Difference) -> str:
    """Format for a pull request: the counts in the open, the clips folded."""
    parts = [f"### {_headline(difference)}"]
    for section in sections(difference):
        table = [f"| {' | '.join(map(_escaped, row))} |" for row in section.table]
        if table:
            table.insert(1, "|" + "---|" * len(section.table[0]))
        lines = [f"- {_escaped(line)}" for line in section.lines]
        folded = ["<details><summary>clips</summary>", "", *lines, "", "</details>"] if table and lines else lines
        parts.append(
            "\n".join([f"**{_escaped(section.title)}**", "", *table, *([""] if table and folded else []), *folded])
        )
    return "\n\n".join(parts)


def _headline(difference: Difference) -> str:
    a, b = difference.a, difference.b
    names = f"{a.dataset} {a.version} -> {b.dataset} {b.version}"
    if a.version == b.version:
        return f"{names}: the same version"
    if difference.same_contents:
        return f"{names}: same contents, {b.kept:,} clips"
    return f"{names}: {a.kept:,} -> {b.kept:,} clips ({b.kept - a.kept:+,})"


def sections(difference: Difference) -> Iterator[Section]:
    """Yield the parts of a report that have something to say."""
    table: Table
    if not difference.same_contents:
        yield Section("Clips by split", _by_split(difference))
    yield from _moved(difference)
    if difference.changed:
        hows = Counter(one.how for one in difference.changed)
        table = (("changed audio", "clips"), *((_HOW[how], f"{hows[how]:,}") for how in _HOW if hows[how]))
        others = [one.id for one in difference.changed if one.how in ("other", "unheard")]
        yield Section(f"Changed audio: {_clips(len(difference.changed))}", table, _some(others))
    if difference.relabelled:
        clips = len({one.id for one in difference.relabelled})
        kinds = Counter(_kind(one) for one in difference.relabelled)
        table = (("change", "labels"), *((kind, f"{count:,}") for kind, count in sorted(kinds.items())))
        shown = [
            f"{one.id}: {one.instrument} {_label(one.before)} -> {_label(one.after)}" for one in difference.relabelled
        ]
        yield Section(f"Relabelled: {_clips(clips)}", table, _some(shown))
    if difference.resplit:
        ways = Counter((one.before, one.after) for one in difference.resplit)
        table = (("from", "to", "clips"), *((*way, f"{count:,}") for way, count in sorted(ways.items())))
        yield Section(
            f"Moved to another split: {_clips(len(difference.resplit))}",
            table,
            _some(one.id for one in difference.resplit),
        )
    if difference.reasons:
        table = (
            ("reason before", "reason after", "clips"),
            *((a, b, f"{count:,}") for a, b, count in difference.reasons),
        )
        yield Section("Not kept on either side, for another reason", table)
    shifted = [row for row in difference.balance if _has_shifted(row)]
    if shifted:
        yield Section("Label balance: clips with the instrument, share of its split", _shifts(shifted))
    for title, name in (("Recipe", "recipe"), ("Tools", "tools"), ("Sources", "sources"), ("Other settings", "")):
        found = [one for one in difference.settings if _belongs(one, name)]
        if found:
            yield Section(title, (("setting", "before", "after"), *map(_row, found)))
    shares = {name: share for name, share in drift(difference).items() if share}
    if shares:
        yield Section("Drift", (("share", "of"), *((f"{share:.2%}", name) for name, share in shares.items())))


_HOW = {
    "processing": "prepared differently from the same upstream samples",
    "equivalent": "sounds the same (re-encoded upstream)",
    "other": "other audio",
    "unheard": "other samples, not listened to",
}


def _by_split(difference: Difference) -> Table:
    rows = [("split", "before", "after", "added", "gone", "moved in", "moved out")]
    for split in SPLITS:
        added, gone = (Counter(one.split for one in side)[split] for side in (difference.added, difference.gone))
        came = sum(one.after == split for one in difference.resplit)
        left = sum(one.before == split for one in difference.resplit)
        counts = (difference.a.splits[split], difference.b.splits[split], added, gone, came, left)
        rows.append((split, *(f"{count:,}" for count in counts)))  # type: ignore[arg-type]
    return tuple(rows)


def _moved(difference: Difference) -> Iterator[Section]:
    for title, moved, head in (
        ("Gone", difference.gone, "reason now"),
        ("Added", difference.added, "reason before"),
    ):
        if moved:
            reasons = Counter(one.reason for one in moved)
            table = ((head, "clips"), *((reason, f"{count:,}") for reason, count in reasons.most_common()))
            shown = [
                f"{one.id} ({one.split}: {', '.join(one.present) or 'nothing present'}): {one.reason}" for one in moved
            ]
            yield Section(f"{title}: {_clips(len(moved))}", table, _some(shown))


def _kind(one: Relabelled) -> str:
    if not one.presence_changed:
        return "confidence or origin only"
    return f"{_word(one.before)} -> {_word(one.after)}"


def _word(label: tuple[int, float | None, str] | None) -> str:
    return "unknown" if label is None else ("absent", "present")[label[0]]


def _label(label: tuple[int, float | None, str] | None) -> str:
    if label is None:
        return "unknown"
    _, confidence, origin = label
    return f"{_word(label)} ({'' if confidence is None else f'{confidence:g}, '}{origin})"


def _has_shifted(row: Balance) -> bool:
    return row.before != row.after or abs(row.share_after - row.share_before) >= SHOWN_SHIFT


def _shifts(rows: Sequence[Balance]) -> Table:
    head = ("split", "instrument", "before", "after", "change", "share before", "share after")
    return (
        head,
        *(
            (row.split, row.instrument, f"{row.before:,}", f"{row.after:,}", f"{row.after - row.before:+,}",
             f"{row.share_before:.1%}", f"{row.share_after:.1%}")
            for row in rows
        ),
    )  # fmt: skip


def _belongs(setting: Setting, name: str) -> bool:
    first = setting.path.partition(".")[0]
    return first == name if name else first not in ("recipe", "tools", "sources")


def _row(setting: Setting) -> tuple[str, str, str]:
    return setting.path, _shown(setting.before), _shown(setting.after)


def _shown(value: Any) -> str:
    words = "-" if value is None else str(value)
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[: SHOWN_CHARACTERS - 3]}..."


def _clips(count: int) -> str:
    return f"{count:,} clip{'' if count == 1 else 's'}"


def _some(items: Iterable[str]) -> tuple[str, ...]:
    listed = list(items)
    more = len(listed) - SHOWN
    return (*listed[:SHOWN], f"and {more:,} more (--json lists all)") if more > 0 else tuple(listed)


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Format rows with aligned columns; numbers to the right."""
    if not table:
        return []
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    right = [all(_is_number(row[column]) for row in table[1:]) for column in range(len(table[0]))]
    return [
        "  " + "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in table
    ]


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9,]+(\.[0-9]+)?%?", cell) is not None


def _escaped(words: str) -> str:
    return re.sub(r"([\\|<\[_*`])", r"\\\1", words)
