"""Songs: a mix is labelled by its stems, window by window."""

from dataclasses import replace
from typing import Any

from tests.support.rows import clip, human, stored
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN, Clip, Label, Rejected, Sounding, Track
from tutti.datasets.tracks import presence_between
from tutti.pipelines.rows import Song
from tutti.pipelines.stages.clean import CleanConfig, clean
from tutti.pipelines.stages.songs import SongConfig, is_of_a_song, key_by_song, passes_by, song_of, songs

CLASSES = ("cello", "drums", "voice")
NO = dict.fromkeys(CLASSES, 0)


def stem(name: str, seconds: float = 10.0, spans: Any = ((0.0, 10.0),), **changes: Any) -> Clip:
    audio = stored(num_samples=round(seconds * 16_000), active=spans)
    labels = changes.pop("labels", human(**{**NO, "cello": 1}))
    track = Track("Song", name, "cello")
    return clip(f"medleydb/Song/{name}@0", audio=audio, track=track, labels=labels, **changes)


def mix(seconds: float = 10.0, **changes: Any) -> Clip:
    audio = stored(num_samples=round(seconds * 16_000))
    return clip("medleydb/Song/MIX@0", audio=audio, track=Track("Song", None), **changes)


def joined(*rows: Clip | Rejected) -> dict[str, Clip | Rejected]:
    """The rows of a song after the stage, by the last part of their ids."""
    song = song_of(("medleydb/Song", reversed(rows)))
    found = songs(song, instruments=CLASSES, config=SongConfig())
    return {(row.clip if isinstance(row, Rejected) else row).id[len("medleydb/Song/") : -2]: row for row in found}


def presence(row: Clip | Rejected) -> dict[str, int]:
    assert isinstance(row, Clip)
    return {name: label.presence for name, label in row.labels.items()}


def test_a_mix_has_the_labels_and_the_times_of_its_stems() -> None:
    rows = joined(
        mix(), stem("S01", spans=((1.0, 4.0),)), stem("S02", spans=((6.0, 9.0),), labels=human(**{**NO, "voice": 1}))
    )
    cello, voice = Sounding("S01", ((1.0, 4.0),), ("cello",)), Sounding("S02", ((6.0, 9.0),), ("voice",))
    assert presence(rows["MIX"]) == {"cello": PRESENT, "drums": ABSENT, "voice": PRESENT}
    assert (rows["S01"].sounding, rows["S02"].sounding) == ((cello,), (voice,))  # type: ignore[union-attr]
    assert rows["MIX"].sounding == (cello, voice)  # type: ignore[union-attr]
    assert presence_between((cello, voice), 4.0, 6.0, CLASSES) == [ABSENT, ABSENT, ABSENT]


def test_what_a_stem_may_hold_is_unknown_in_the_mix_while_it_sounds() -> None:
    rows = joined(mix(), stem("S01", spans=((1.0, 4.0),), labels=human(cello=1)))
    sounding = rows["MIX"].sounding  # type: ignore[union-attr]
    assert sounding == (Sounding("S01", ((1.0, 4.0),), ("cello",), ("drums", "voice")),)
    assert presence(rows["MIX"]) == {"cello": PRESENT}
    assert presence_between(sounding, 1.0, 2.0, CLASSES) == [PRESENT, UNKNOWN, UNKNOWN]


def test_a_stem_that_never_sounds_is_not_heard_in_the_mix() -> None:
    silent = stem("S02", spans=(), labels=human(**{**NO, "voice": 1}))
    rejected = clean(silent, config=CleanConfig())
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.detail) == ("silent", "never sounds")
    rows = joined(mix(), stem("S01"), rejected)
    assert presence(rows["MIX"]) == {"cello": PRESENT, "drums": ABSENT, "voice": ABSENT}


def test_a_stem_that_rests_for_most_of_the_song_is_kept() -> None:
    quiet = stem("S01", spans=((1.0, 1.2),))
    assert quiet.audio is not None
    rests = replace(quiet, audio=replace(quiet.audio, silence_share=0.98))
    assert clean(rests, config=CleanConfig()) == rests


def test_a_lost_stem_may_be_in_the_mix_at_any_time() -> None:
    lost = Rejected(stem("S02", labels=human(**{**NO, "voice": 1})), "prepare", "undecodable")
    rows = joined(mix(), stem("S01", spans=((1.0, 4.0),)), lost)
    assert "S02" not in rows  # it went on before
    assert rows["MIX"].sounding == (  # type: ignore[union-attr]
        Sounding("S01", ((1.0, 4.0),), ("cello",)),
        Sounding("S02", ((0.0, 10.0),), (), ("voice",)),
    )
    assert presence(rows["MIX"]) == {"cello": PRESENT, "drums": ABSENT}


def test_a_mix_that_was_added_up_lacks_what_could_not_be_decoded() -> None:
    lost = Rejected(stem("S02", labels=human(**{**NO, "voice": 1})), "prepare", "undecodable")
    rows = joined(mix(acquired="sum"), stem("S01"), lost)
    assert presence(rows["MIX"]) == {"cello": PRESENT, "drums": ABSENT, "voice": ABSENT}


def test_a_lossy_preview_is_no_measure_of_its_stems() -> None:
    preview = replace(mix(), audio=stored(num_samples=160_000, bit_rate=192_000))
    rows = joined(preview, stem("S01", seconds=12.5, spans=((0.0, 12.5),)))
    assert isinstance(rows["S01"], Clip)


def test_a_stem_longer_than_its_mix_is_refused_by_song_and_stem() -> None:
    rows = joined(mix(), stem("S01"), stem("S02", 12.5, labels=human(**{**NO, "voice": 1})))
    refused = rows["S02"]
    assert isinstance(refused, Rejected)
    assert (refused.stage, refused.reason, refused.value) == ("songs", "longer_than_mix", 12.5)
    assert refused.detail == "stem S02 of medleydb/Song has 12.5 s, its mix 10.0 s"
    assert presence(rows["MIX"]) == {"cello": PRESENT, "drums": ABSENT}  # it may be in the mix


def test_stems_are_as_long_as_they_like_where_the_mix_is_their_sum_or_is_not_there() -> None:
    assert isinstance(joined(mix(acquired="sum"), stem("S01", 12.5))["S01"], Clip)
    assert isinstance(joined(stem("S01", 12.5))["S01"], Clip)
    assert isinstance(joined(mix(), stem("S01", 10.4))["S01"], Clip)


def test_times_of_the_corpus_win_over_measured_ones_and_end_with_the_stem() -> None:
    given = stem("S01", spans=((0.0, 10.0),), sounding=(Sounding("S01", ((2.0, 3.0), (8.0, 12.0), (11.0, 12.0))),))
    assert joined(given)["S01"].sounding == (  # type: ignore[union-attr]
        Sounding("S01", ((2.0, 3.0), (8.0, 10.0)), ("cello",)),
    )


def test_a_label_of_the_mix_itself_stays() -> None:
    rows = joined(mix(labels={"drums": Label(PRESENT, "crowd")}), stem("S01"))
    assert presence(rows["MIX"]) == {"cello": PRESENT, "drums": PRESENT, "voice": ABSENT}


def test_a_mix_without_stems_stays_as_it_is() -> None:
    assert joined(mix(labels=human(voice=1)))["MIX"] == mix(labels=human(voice=1), sounding=())


def test_rows_of_no_song_are_none_of_a_song() -> None:
    assert not is_of_a_song(clip("irmas/x@0"))
    assert is_of_a_song(mix())
    rejected = Rejected(mix(), "clean", "silent")
    assert [passes_by(row) for row in (clip("irmas/x@0"), mix(), rejected)] == [True, False, True]
    assert is_of_a_song(rejected)
    assert key_by_song(mix())[0] == "medleydb/Song"
    assert song_of(("medleydb/Song", [stem("S02"), stem("S01")])) == Song(
        "medleydb/Song", (stem("S01"), stem("S02")), ()
    )
