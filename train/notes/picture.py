"""Notes as a picture: a piano roll colored by instrument, and below it when each instrument is heard.

The same notes give the same bytes.
"""

import io
from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tutti.datasets.record import Note, Seconds
from tutti.datasets.targets import PICTURE
from tutti.datasets.taxonomy import INSTRUMENTS
from tutti.train.notes.rolls import LOWEST_PITCH, NUM_PITCHES
from tutti.train.scoring.pictures import plain

_COLORS = colormaps["tab20"].colors  # type: ignore[attr-defined]  # twenty, light and dark by turns
_INCHES_PER_S = 0.5  # a note of a tenth of a second is still some pixels wide
_MIN_WIDTH, _MAX_WIDTH = 8.0, 60.0  # inches: the title fits; a viewer still opens it
_DPI = 100
_CS = range(24, 109, 12)  # C1 to C8


def color_of(index: int) -> tuple[float, float, float]:
    """Choose the color of a class by its index: first the ten strong colors, then their light shades."""
    red, green, blue = _COLORS[(2 * index) % 20 + (index // 10) % 2]
    return red, green, blue


def piano_roll_png(
    notes: Sequence[Note],
    timeline: Mapping[str, Sequence[Sequence[Seconds]]],
    duration_s: Seconds,
    instruments: Sequence[str],
    *,
    title: str,
) -> bytes:
    """Draw a PNG.

    Args:
        notes: those of no class are drawn in gray.
        timeline: instrument to stretches [start, end].
        duration_s: of the whole.
        instruments: the classes, whose order decides the colors.
        title: stands above.
    """
    shown = [name for name in instruments if name in timeline or any(note.instrument == name for note in notes)]
    width = min(_MAX_WIDTH, max(_MIN_WIDTH, duration_s * _INCHES_PER_S))
    lanes = max(1, len(shown))
    figure = Figure(figsize=(width, 5.5 + 0.25 * lanes), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    roll, activity = figure.subplots(2, 1, sharex=True, height_ratios=[5.0, 0.5 + 0.25 * lanes])
    colors = {name: color_of(index) for index, name in enumerate(instruments)}
    for name in [*shown, None]:
        mine = [note for note in notes if (note.instrument if note.instrument in colors else None) == name]
        for note in mine:
            bar = [(note.onset_s, note.offset_s - note.onset_s)]
            roll.broken_barh(bar, (note.pitch - 0.45, 0.9), color=colors.get(name or "", (0.6, 0.6, 0.6)))
    low = min([note.pitch for note in notes], default=LOWEST_PITCH + 27)
    high = max([note.pitch for note in notes], default=LOWEST_PITCH + 51)
    roll.set_yticks(list(_CS), [f"C{pitch // 12 - 1}" for pitch in _CS])
    roll.set_ylim(max(LOWEST_PITCH, low - 3) - 0.5, min(LOWEST_PITCH + NUM_PITCHES - 1, high + 3) + 0.5)
    roll.set_title(plain(title))
    roll.set_ylabel("pitch")
    roll.grid(alpha=0.3)
    roll.set_axisbelow(True)
    for lane, name in enumerate(shown):
        bars = [(start, end - start) for start, end in timeline.get(name, [])]
        activity.broken_barh(bars, (lane - 0.4, 0.8), color=colors[name])
    activity.set_yticks(range(len(shown)), [_words(name) for name in shown], fontsize="small")
    activity.set_ylim(lanes - 0.5, -0.5)
    activity.set_xlim(0, duration_s)
    activity.set_xlabel("seconds")
    activity.grid(axis="x", alpha=0.3)
    activity.set_axisbelow(True)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata=PICTURE)
    return stream.getvalue()


def _words(name: str) -> str:
    return INSTRUMENTS[name].display_name if name in INSTRUMENTS else plain(name)
