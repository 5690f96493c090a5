"""Which clips of a source belong to the dataset."""

import random

import pytest
from rows import human

from datasets.record import Recording
from datasets.sources import folder
from pipelines.download import SourceFiles
from pipelines.select import SelectConfig, select

CLASSES = ("cello", "piano")
CSV = """path,group,cello,piano,banjo
only-cello.wav,a,1,,
no-cello.wav,b,0,,
nothing.wav,c,,,
only-banjo.wav,d,,,1
both.wav,e,1,1,
"""


def own_audio(root, text=CSV):
    (root / "labels.csv").write_text(text)
    for line in text.splitlines()[1:]:
        (root / line.split(",")[0]).touch()
    return {"folder": folder.Config(root=str(root))}


def selected(configs, config, *, seed=0, instruments=CLASSES):
    recordings = select(SourceFiles("folder", ()), configs=configs, instruments=instruments, config=config, seed=seed)
    return [clip for recording in recordings for clip in recording.clips]


def names(clips):
    return sorted(clip.recording.removesuffix(".wav") for clip in clips)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("all", ["both", "no-cello", "nothing", "only-banjo", "only-cello"]),
        ("known", ["both", "no-cello", "only-cello"]),
        ("present", ["both", "only-cello"]),
    ],
)
def test_clips_are_kept_by_what_is_known_of_the_classes(tmp_path, keep, expected):
    assert names(selected(own_audio(tmp_path), SelectConfig(keep=keep))) == expected


def test_only_the_named_sources_are_narrowed(tmp_path):
    config = SelectConfig(keep="present", keep_sources=("openmic2018",))

    assert len(selected(own_audio(tmp_path), config)) == 5
    assert len(selected(own_audio(tmp_path), SelectConfig(keep="present", keep_sources=("folder",)))) == 2


def test_labels_of_kept_clips_are_left_as_they_are(tmp_path):
    clips = selected(own_audio(tmp_path), SelectConfig(keep="present"), instruments=("banjo",))

    assert [clip.labels for clip in clips] == [human(banjo=1)]


def test_a_recording_loses_only_the_clips_that_do_not_belong(tmp_path):
    text = "path,start_s,end_s,cello\na.wav,0,2,1\na.wav,2,4,0\na.wav,4,6,1\nb.wav,0,2,0\n"
    recordings = list(
        select(
            SourceFiles("folder", ()),
            configs=own_audio(tmp_path, text),
            instruments=CLASSES,
            config=SelectConfig(keep="present"),
            seed=0,
        )
    )

    assert [type(recording) for recording in recordings] == [Recording]
    assert [clip.id for clip in recordings[0].clips] == ["folder/a.wav@0", "folder/a.wav@4000"]


def many(root, order_seed=None):
    lines = [f"{number:03d}.wav,1" for number in range(60)]
    if order_seed is not None:
        random.Random(order_seed).shuffle(lines)
    return own_audio(root, "path,cello\n" + "\n".join(lines) + "\n")


def test_the_limit_draws_the_same_recordings_in_any_order(tmp_path):
    wanted = {clip.id for clip in selected(many(tmp_path), SelectConfig(limit=20))}

    assert len(wanted) == 20
    for order_seed in range(3):
        assert {clip.id for clip in selected(many(tmp_path, order_seed), SelectConfig(limit=20))} == wanted


def test_a_larger_limit_keeps_what_a_smaller_one_drew(tmp_path):
    configs = many(tmp_path)

    few, more = (names(selected(configs, SelectConfig(limit=limit))) for limit in (5, 20))

    assert set(few) < set(more)


def test_another_seed_draws_other_recordings(tmp_path):
    configs = many(tmp_path)

    assert names(selected(configs, SelectConfig(limit=20), seed=1)) != names(selected(configs, SelectConfig(limit=20)))


def test_the_limit_counts_after_narrowing(tmp_path):
    assert len(selected(own_audio(tmp_path), SelectConfig(keep="present", limit=2))) == 2


def test_a_limit_above_the_number_of_recordings_keeps_all(tmp_path):
    assert len(selected(own_audio(tmp_path), SelectConfig(limit=1_000))) == 5
