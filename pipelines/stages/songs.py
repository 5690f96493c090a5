"""Songs: what sounds in a mix is what its stems say, window by window.

| reason | rule |
|---|---|
| longer_than_mix | a stem ends more than `max_excess_s` after the mix of its song, unless that is a lossy preview |

A stem sounds in its `spans`: those of its corpus, else those that `prepare` measured. A mix has the spans of all its
stems, and is labelled by those that sound in it. Of a stem that was rejected only this is known: what it may hold may
be in the mix at any time. A mix that was added up from stems lacks those that could not be.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tutti.datasets.record import ABSENT, PRESENT, Clip, Label, Labels, Rejected, Seconds, Sounding
from tutti.datasets.tracks import presence_between
from tutti.pipelines.rows import Song

MAX_EXCESS_S: Seconds = 0.5  # stems of a session differ by less; a reverb's tail may
NOT_IN_MIX = frozenset({"silent", "not_rendered"})  # reasons of stems that no mix holds
NOT_IN_SUM = frozenset({"undecodable", "truncated", "missing_stem"})  # of stems that were not added up


@dataclass(frozen=True)
class SongConfig:
    """Rule for a stem against its mix."""

    max_excess_s: Seconds = MAX_EXCESS_S


def song_key(row: Clip | Rejected) -> str:
    """Name the song of a row; empty: it is of none."""
    clip = row.clip if isinstance(row, Rejected) else row
    return "" if clip.track is None else f"{clip.source}/{clip.track.song}"


def is_of_a_song(row: Clip | Rejected) -> bool:
    """Whether a row is a stem or a mix."""
    return song_key(row) != ""


def passes_by(row: Clip | Rejected) -> bool:
    """Whether a row goes on as it is: of no song, or rejected; whatever happens to its song, no reason is lost."""
    return isinstance(row, Rejected) or song_key(row) == ""


def key_by_song(row: Clip | Rejected) -> tuple[str, Clip | Rejected]:
    """Name the song of a row beside it."""
    return song_key(row), row


def song_of(keyed: tuple[str, Iterable[Clip | Rejected]]) -> Song:
    """Collect the rows of one song, in the order of their ids."""
    name, rows = keyed
    rows = sorted(rows, key=_id_of)
    kept = tuple(row for row in rows if isinstance(row, Clip))
    return Song(name, kept, tuple(row for row in rows if isinstance(row, Rejected)))


def songs(song: Song, *, instruments: Sequence[str], config: SongConfig) -> Iterator[Clip | Rejected]:
    """Label the stems and mixes of one song by what sounds in them; refuse stems that are longer than their mix.

    Args:
        song: all its rows; those that were rejected before are heard, and not answered again.
        instruments: the classes of the dataset.
        config: see there.
    """
    mixes = [clip for clip in song.clips if _stem_of(clip) is None]
    longest = max((_duration_s(mix) for mix in mixes if _measures_stems(mix)), default=None)
    stems: list[Clip] = []
    refused: list[Rejected] = []
    for clip in song.clips:
        if (stem := _stem_of(clip)) is None:
            continue
        if longest is not None and _duration_s(clip) > longest + config.max_excess_s:
            detail = f"stem {stem} of {song.name} has {_duration_s(clip):.1f} s, its mix {longest:.1f} s"
            value = round(_duration_s(clip), 6)
            refused.append(Rejected(clip, stage="songs", reason="longer_than_mix", value=value, detail=detail))
        else:
            stems.append(replace(clip, sounding=(sounding_of(clip, stem, instruments),)))
    yield from refused
    yield from stems
    for mix in mixes:
        yield _mixed(mix, stems, [*song.lost, *refused], instruments)


def _measures_stems(mix: Clip) -> bool:
    """Whether no stem may be longer than a mix: neither of a sum, nor of a preview, which is lossy and fades early."""
    return mix.acquired != "sum" and (mix.audio is None or mix.audio.bit_rate is None)


def sounding_of(clip: Clip, stem: str, instruments: Sequence[str]) -> Sounding:
    """Collect when a stem sounds and what is heard then."""
    audio = clip.audio
    measured = () if audio is None or audio.active is None else audio.active
    given = clip.sounding[0].spans if clip.sounding else measured
    last = _duration_s(clip)
    spans = tuple((onset, min(end, last)) for onset, end in given if onset < min(end, last))
    return Sounding(stem, spans, *_heard(clip.labels, instruments))


def _heard(labels: Labels, instruments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List the classes that are present, and those that are unknown."""
    present = sorted(name for name in instruments if name in labels and labels[name].presence == PRESENT)
    return tuple(present), tuple(sorted(name for name in instruments if name not in labels))


def _mixed(mix: Clip, stems: Sequence[Clip], lost: Iterable[Rejected], instruments: Sequence[str]) -> Clip:
    """Label a mix by its stems; one of which no stem is known stays as it is."""
    last = _duration_s(mix)
    sounding = [one for stem in stems for one in stem.sounding or ()]
    absent_reasons = NOT_IN_MIX | (NOT_IN_SUM if mix.acquired == "sum" else frozenset())
    for row in lost:
        if (stem := _stem_of(row.clip)) is not None and row.reason not in absent_reasons:
            present, unknown = _heard(row.clip.labels, instruments)
            sounding.append(Sounding(stem, ((0.0, last),), (), tuple(sorted({*present, *unknown}))))
    if not sounding:
        return replace(mix, sounding=())
    sounding.sort(key=lambda one: one.stem)
    origins = {label.origin for stem in stems for label in stem.labels.values()}
    origin = min(origins, default="human")
    presence = presence_between(sounding, 0.0, last, instruments)
    found = {
        name: Label(value, origin)
        for name, value in zip(instruments, presence, strict=True)
        if value in (PRESENT, ABSENT)
    }
    return replace(mix, labels={**found, **mix.labels}, sounding=tuple(sounding))


def _stem_of(clip: Clip) -> str | None:
    return None if clip.track is None else clip.track.stem


def _duration_s(clip: Clip) -> Seconds:
    return 0.0 if clip.audio is None else clip.audio.num_samples / clip.audio.sample_rate


def _id_of(row: Clip | Rejected) -> str:
    return row.clip.id if isinstance(row, Rejected) else row.id
