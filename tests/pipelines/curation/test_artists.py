"""Splits by artist: whose music is heard in training is not heard in evaluation."""

from dataclasses import replace

from splitting import summary

from tutti.pipelines.curation.artists import artist_leak, grouped_by
from tutti.pipelines.curation.split_rules import SplitConfig, grouped
from tutti.pipelines.rows import Curation
from tutti.pipelines.stages.split import plan_by_groups

DEALT = SplitConfig(rules=grouped(50, 25, 25))
CLIPS = [
    replace(summary(f"{song:02d}", "pool", f"song {song:02d}", presence=(1, 0)), artist=f"artist{song % 6}")
    for song in range(24)
]


def test_songs_of_an_artist_are_one_group_only_where_we_divide() -> None:
    by_artist = replace(DEALT, group_by="artist")
    assert {clip.group for clip in grouped_by(CLIPS, by_artist)} == {f"artist:artist{number}" for number in range(6)}
    assert grouped_by(CLIPS, DEALT) == CLIPS
    official = replace(by_artist, rules={"*": "train"})
    assert grouped_by(CLIPS, official) == CLIPS
    unknown = replace(CLIPS[0], artist="")
    assert grouped_by([unknown], by_artist) == [unknown]


def test_a_leak_is_counted_in_artists_and_in_clips() -> None:
    splits = {clip.id: "test" if number < 7 else "train" for number, clip in enumerate(CLIPS)}
    splits[CLIPS[8].id] = None
    assert artist_leak(CLIPS, splits) == {
        "artists": 6,
        "artists_in_two_splits": 6,
        "evaluation_clips": 7,
        "evaluation_clips_of_trained_artists": 7,
    }


def test_the_certificate_says_what_either_division_leaks() -> None:
    def divided(config: SplitConfig) -> dict[str, object]:
        plan = plan_by_groups(Curation(CLIPS), config=config, instruments=("cello", "voice"), seed=0)
        return dict(plan.certificate["artists"])

    by_artist, by_song = divided(replace(DEALT, group_by="artist")), divided(DEALT)
    assert by_artist["group_by"] == "artist"
    assert by_song["group_by"] == "song"
    assert {name: by_artist[name] for name in ("artist", "song")} == {
        name: by_song[name] for name in ("artist", "song")
    }
    assert by_artist["artist"]["artists_in_two_splits"] == 0  # type: ignore[index]
    assert by_song["song"]["artists_in_two_splits"] > 0  # type: ignore[index]


def test_a_dataset_without_artists_says_nothing_of_them() -> None:
    clips = [replace(clip, artist="") for clip in CLIPS]
    plan = plan_by_groups(Curation(clips), config=DEALT, instruments=("cello", "voice"), seed=0)
    assert "artists" not in plan.certificate
