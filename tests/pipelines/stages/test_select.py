"""Which clips of a source belong to the dataset."""

import random

import pytest
from rows import human
from slakh_archive import archive_of, metadata, stem, track

from tutti.datasets.record import PRESENT, Label, Recording, Rejected
from tutti.datasets.sources import folder, openmic2018, slakh
from tutti.pipelines.rows import SourceFiles
from tutti.pipelines.stages.select import SelectConfig, labels_with_kinds, select

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
    return [clip for row in recordings if isinstance(row, Recording) for clip in row.clips]


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

    assert [type(row) for row in recordings] == [Recording, Rejected, Rejected]
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


# --- what must not enter


def rows(configs, **fields):
    config = SelectConfig(**fields)
    return list(select(SourceFiles("folder", ()), configs=configs, instruments=CLASSES, config=config, seed=0))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("folder/both.wav@0", ["both"]),  # the id of a clip
        ("both.wav", ["both"]),  # a recording
        ("folder/both.wav", ["both"]),
        ("only-*", ["only-banjo", "only-cello"]),
        ("folder/*o.wav@?", ["only-banjo", "only-cello", "no-cello"]),
        ("nobody.wav", []),
        ("both", []),  # a part of a name is no name
    ],
)
def test_excluded_clips_become_rows_with_a_reason(tmp_path, pattern, expected):
    found = rows(own_audio(tmp_path), exclude=(pattern,))
    excluded = [row for row in found if isinstance(row, Rejected)]

    assert names(row.clip for row in excluded) == sorted(expected)
    assert {(row.stage, row.reason, row.status) for row in excluded} <= {("select", "excluded", "rejected")}
    assert len(found) == 5


def test_a_name_with_brackets_is_also_meant_as_it_stands(tmp_path):
    configs = own_audio(tmp_path, "path,cello\n[cla]1.wav,1\nc.wav,1\n")

    assert [row.clip.recording for row in rows(configs, exclude=("[cla]1.wav",)) if isinstance(row, Rejected)] == [
        "[cla]1.wav"
    ]


def test_what_the_recipe_does_not_want_anyway_is_not_called_excluded(tmp_path):
    found = rows(own_audio(tmp_path), keep="present", exclude=("nothing.wav", "both.wav"))

    assert {row.clip.recording: row.reason for row in found if isinstance(row, Rejected)} == {
        "both.wav": "excluded",
        "no-cello.wav": "no_class",
        "nothing.wav": "no_class",
        "only-banjo.wav": "no_class",
    }


def test_the_limit_draws_from_what_is_not_excluded(tmp_path):
    configs = many(tmp_path)
    drawn = {row.clips[0].recording for row in rows(configs, limit=5)}
    out = min(drawn)

    again = rows(configs, limit=5, exclude=(out,))

    assert {row.clips[0].recording for row in again if isinstance(row, Recording)} > drawn - {out}
    assert sum(isinstance(row, Recording) for row in again) == 5


# --- what the recipe does not ask for


def test_clips_without_a_class_become_rows_with_a_reason(tmp_path):
    left_out = [row for row in rows(own_audio(tmp_path), keep="present") if isinstance(row, Rejected)]

    assert names(row.clip for row in left_out) == ["no-cello", "nothing", "only-banjo"]
    assert {(row.stage, row.reason, row.status, row.detail) for row in left_out} == {
        ("select", "no_class", "rejected", "select.keep=present")
    }


def test_a_limit_leaves_rows_only_of_what_its_draw_passed_over(tmp_path):
    lines = [f"{number:03d}.wav,{number % 2}" for number in range(200)]
    configs = own_audio(tmp_path, "path,cello\n" + "\n".join(lines) + "\n")

    few = [row for row in rows(configs, keep="present", limit=10) if isinstance(row, Rejected)]
    whole = [row for row in rows(configs, keep="present", limit=101) if isinstance(row, Rejected)]

    assert 2 <= len(few) <= 25  # about as many as it drew
    assert len(whole) == 100


# --- generic instruments


KINDS_TOO = (*CLASSES, "acoustic_guitar", "electric_guitar")


def guitars(root, text, keep="present"):
    configs, config = own_audio(root, text), SelectConfig(keep=keep)
    found = select(SourceFiles("folder", ()), configs=configs, instruments=KINDS_TOO, config=config, seed=0)
    return {row.clips[0].recording: row.clips[0].labels for row in found if isinstance(row, Recording)}


def test_a_guitar_of_unknown_kind_counts_as_a_class_where_its_kinds_are_classes(tmp_path):
    text = "path,guitar,cello\nguitar.wav,1,0\nno-guitar.wav,0,0\ncello.wav,,1\n"

    assert sorted(guitars(tmp_path, text)) == ["cello.wav", "guitar.wav"]
    assert names(selected(own_audio(tmp_path, text), SelectConfig(keep="present"))) == ["cello"]


def test_an_absent_guitar_is_neither_acoustic_nor_electric(tmp_path):
    text = "path,guitar,acoustic_guitar\nnone.wav,0,\nsome.wav,1,\ntold.wav,0,1\n"
    labels = guitars(tmp_path, text, keep="all")

    assert labels["none.wav"] == human(guitar=0, acoustic_guitar=0, electric_guitar=0)
    assert labels["some.wav"] == human(guitar=1)
    assert labels["told.wav"] == human(guitar=0, acoustic_guitar=1, electric_guitar=0)  # what is stated stands


def test_the_crowds_no_to_a_guitar_is_its_no_to_both_kinds():
    """Requirement D15: below .5 in the three-valued labels, at most .8 in Lumen's; not asked is Lumen's absent."""
    kinds = ("acoustic_guitar", "electric_guitar")
    ternary, lumen = openmic2018.Config(), openmic2018.Config(mode="lumen")

    def labels(relevances, config):
        made = labels_with_kinds(openmic2018.labels_of(relevances, config), kinds)
        return {name: label for name, label in made.items() if name in ("guitar", *kinds)}

    no, unsure = Label(0, "crowd", 0.1), Label(0, "crowd", 0.8)
    assert labels({"guitar": 0.1}, ternary) == {"guitar": no, "acoustic_guitar": no, "electric_guitar": no}
    assert labels({"guitar": 0.5}, ternary) == {"guitar": Label(1, "crowd", 0.5)}
    assert labels({"piano": 0.9}, ternary) == {}
    assert labels({"guitar": 0.8}, lumen) == {"guitar": unsure, "acoustic_guitar": unsure, "electric_guitar": unsure}
    assert set(labels({"piano": 0.9}, lumen).values()) == {Label(0, "weak")}
    assert labels({"guitar": 0.81}, lumen) == {"guitar": Label(1, "crowd", 0.81)}


def test_labels_of_fifteen_outputs_are_the_readers_where_it_knows_more_than_its_classes_say(tmp_path):
    files = archive_of(tmp_path / "slakh.tar", track(1, metadata(S00=stem(61, "session_horns")), "S00"))
    (file,) = files.values()

    def labels_of(config):
        rows = select(
            SourceFiles("slakh", (file,)), configs={"slakh": slakh.Config()}, instruments=(), config=config, seed=0
        )
        (clip,) = (clip for row in rows for clip in row.clips if clip.track.stem)
        assert clip.hierarchy is None  # a row travels far
        return {name for name, label in clip.labels.items() if label.presence == PRESENT}

    assert labels_of(SelectConfig()) == set()  # brass is no class of the taxonomy
    assert labels_of(SelectConfig(labels="hierarchy15")) == {"brass"}
