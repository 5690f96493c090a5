"""The reader of NSynth: names, fields, label spaces, partitions, defects."""

import json
import pickle
import random
import tracemalloc
from pathlib import Path

import pytest
from nsynth_notes import archive_files, described, fields_of
from test_source_contract import mirror_files

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.hierarchy import OUTPUTS
from tutti.datasets.record import PRESENT, Clip, Label
from tutti.datasets.source import LocalFile
from tutti.datasets.sources import nsynth
from tutti.datasets.sources.nsynth import Config, NoteName, OneOf, check_note, labels_of, parse_note
from tutti.datasets.taxonomy import INSTRUMENTS as TAXONOMY
from tutti.pipelines.stages.select import is_excluded

FLUTE = "flute_acoustic_001-072-100"
LEAD = "synth_lead_synthetic_011-050-075"


def clips(files: dict[str, LocalFile], **config: str) -> list[Clip]:
    return [clip for recording in nsynth.read(files, Config(**config)) for clip in recording.clips]  # type: ignore[arg-type]


def labels(note_str: str, **config: str) -> dict[str, Label]:
    return dict(labels_of(parse_note(note_str), 7, Config(**config)))  # type: ignore[arg-type]


def presence(note_str: str, **config: str) -> dict[str, int]:
    return {name: label.presence for name, label in labels(note_str, **config).items()}


# --- names and fields


def test_a_name_is_read_from_the_right_because_a_family_holds_the_separator() -> None:
    assert parse_note(LEAD) == NoteName("synth_lead_synthetic_011", "synth_lead", "synthetic", 50, 75)
    assert parse_note("bass_synthetic_033-022-050") == NoteName("bass_synthetic_033", "bass", "synthetic", 22, 50)


@pytest.mark.parametrize(
    "name",
    [
        "flute_acoustic_001-072",  # no velocity
        "flute_acoustic_1-072-100",
        "flute_wooden_001-072-100",
        "lead_synthetic_001-072-100",
        "flute_acoustic_001-128-100",  # beyond MIDI
        "flute_acoustic_001-072-000",
        "flute_acoustic_001-072-100.wav",
        "flute_acoustic_\u0660\u0660\u0661-072-100",  # Arabic digits
    ],
)
def test_another_form_of_name_is_refused_with_the_place_and_a_remedy(name: str) -> None:
    with pytest.raises(IntegrityError, match=r"here: .* is not named <family>_<source>_NNN-.*; download the archive"):
        parse_note(name, "here")


def test_fields_that_agree_with_the_name_are_taken() -> None:
    assert check_note(FLUTE, fields_of(FLUTE, number=1005), "here").pitch == 72


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("pitch", 73, "pitch is 73, its name says 72"),
        ("pitch", "72", "pitch is '72', its name says 72"),
        ("pitch", True, "pitch is True, its name says 72"),
        ("velocity", 99, "velocity is 99, its name says 100"),
        ("note_str", LEAD, f"note_str is '{LEAD}', its name says '{FLUTE}'"),
        ("instrument_str", "flute_acoustic_002", "instrument_str is 'flute_acoustic_002'"),
        ("instrument_family", 3, "instrument_family is 3, its name says 2"),
        ("instrument_family_str", "guitar", "instrument_family_str is 'guitar'"),
        ("sample_rate", 44_100, "sample_rate is 44100, its name says 16000"),
        ("instrument_source", 2, "instrument_source is 2, instrument_source_str 'acoustic'"),
        ("instrument_source_str", "wooden", "instrument_source is 0, instrument_source_str 'wooden'"),
        ("instrument", 1006, "instrument is 1006, not a number from 0 to 1005"),
        ("instrument", None, "instrument is None"),
    ],
)
def test_a_field_that_says_otherwise_is_named(field: str, value: object, message: str) -> None:
    with pytest.raises(IntegrityError, match=f"^here: {message}.*; download the archive again"):
        check_note(FLUTE, fields_of(FLUTE) | {field: value}, "here")


def test_a_missing_field_and_a_note_without_fields_are_named() -> None:
    fields = fields_of(FLUTE)
    del fields["velocity"]
    with pytest.raises(IntegrityError, match="here: lacks the field 'velocity'"):
        check_note(FLUTE, fields, "here")
    with pytest.raises(IntegrityError, match="here: is list, not an object"):
        check_note(FLUTE, [], "here")


# --- label spaces


def test_a_family_is_present_and_all_others_are_absent() -> None:
    assert labels(LEAD) == {
        **dict.fromkeys(nsynth.FAMILIES, Label(0, "human")),
        "synth_lead": Label(1, "human"),
    }


def test_an_instrument_is_a_class_named_by_upstreams_number() -> None:
    classes = nsynth.instruments(Config(labels="instruments"))
    assert (len(classes), classes[0], classes[-1]) == (1006, "instrument_0000", "instrument_1005")
    stated = presence(LEAD, labels="instruments")
    assert [name for name, value in stated.items() if value == 1] == ["instrument_0007"]
    assert tuple(stated) == classes
    assert presence(LEAD, labels="instruments", others="unknown") == {"instrument_0007": 1}


@pytest.mark.parametrize(
    ("note", "present", "unknown"),
    [
        ("organ_electronic_001-060-100", {"organ"}, set()),
        ("flute_acoustic_001-060-100", {"flute"}, set()),
        ("vocal_acoustic_001-060-100", {"voice"}, set()),
        ("guitar_acoustic_001-060-100", {"acoustic_guitar"}, set()),
        ("guitar_electronic_001-060-100", {"electric_guitar"}, set()),
        ("brass_acoustic_001-060-100", set(), {"trombone", "trumpet"}),
        ("reed_acoustic_001-060-100", set(), {"accordion", "clarinet", "saxophone"}),
        ("string_acoustic_001-060-100", set(), {"bass", "cello", "violin"}),
        ("keyboard_electronic_001-060-100", set(), {"accordion", "piano", "synthesizer"}),
        ("flute_synthetic_001-060-100", {"synthesizer"}, {"flute"}),
        ("guitar_synthetic_001-060-100", {"synthesizer"}, {"acoustic_guitar", "electric_guitar"}),
        (LEAD, {"synthesizer"}, set()),
    ],
)
def test_a_class_of_the_taxonomy_is_known_only_where_the_family_decides_it(
    note: str, present: set[str], unknown: set[str]
) -> None:
    stated = presence(note, labels="canonical")
    assert {name for name, value in stated.items() if value == 1} == present
    assert set(nsynth.CANONICAL) - set(stated) == unknown
    assert {label.origin for label in labels(note, labels="canonical").values()} == {"weak"}
    assert set(presence(note, labels="canonical", others="unknown")) == present


def test_canonical_classes_are_those_of_the_taxonomy() -> None:
    assert set(nsynth.CANONICAL) <= set(TAXONOMY)
    assert nsynth.instruments(Config(labels="canonical")) == nsynth.CANONICAL


def test_a_row_of_1006_labels_weighs_as_much_as_one() -> None:
    config = Config(labels="instruments")
    row = OneOf("instrument_0007", config)
    assert len(row) == 1006
    assert len(pickle.dumps(row)) < 300
    assert pickle.loads(pickle.dumps(row)) == {**dict.fromkeys(nsynth.instruments(config), Label(0, "human")), **{
        "instrument_0007": Label(1, "human")
    }}  # fmt: skip
    assert "flute" not in row
    with pytest.raises(KeyError):
        row["instrument_1006"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"labels": "pitches"}, "labels='pitches'; choose one of families, instruments, canonical"),
        ({"split": "random"}, "split='random'; choose one of merged, official"),
        ({"others": "none"}, "others='none'; choose one of absent, unknown"),
    ],
)
def test_a_switch_that_does_not_exist_is_refused(config: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Config(**config)  # type: ignore[arg-type]


# --- archives


def test_a_note_becomes_a_clip_of_four_seconds_in_a_group_of_its_own(tmp_path: Path) -> None:
    members = {"audio/._x.wav": b"", f"audio/{FLUTE}.wav": b"", "examples.json": described(FLUTE)}
    recording = next(iter(nsynth.read(archive_files(tmp_path, train=members), Config())))
    (clip,) = recording.clips
    assert recording.media.url == ("http://download.magenta.tensorflow.org/datasets/nsynth/nsynth-train.jsonwav.tar.gz")
    assert (recording.media.member, recording.media.sha256) == (f"nsynth-train/audio/{FLUTE}.wav", "ab" * 32)
    assert (clip.id, clip.recording, clip.group) == (f"nsynth/{FLUTE}@0", FLUTE, f"nsynth/{FLUTE}")
    assert (clip.declared_s, clip.license) == (4.0, "CC-BY-4.0")


def test_train_and_valid_are_one_partition_unless_the_official_split_is_asked_for(tmp_path: Path) -> None:
    files = archive_files(tmp_path)
    assert [clip.partition for clip in clips(files)] == ["merged", "merged", "test"]
    assert [clip.partition for clip in clips(files, split="official")] == ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"examples.json": described(FLUTE)}, f"'{FLUTE}': stands twice, or has no nsynth-valid/audio/{FLUTE}.wav"),
        (
            {"examples.json": described(FLUTE), f"audio/{FLUTE}.wav": b"", f"audio/{LEAD}.wav": b""},
            f"examples.json says nothing of 'nsynth-valid/audio/{LEAD}.wav'",
        ),
        (
            {
                "examples.json": described(FLUTE)[:-1] + b", " + described(FLUTE)[1:],
                f"audio/{FLUTE}.wav": b"",
            },
            f"'{FLUTE}': stands twice",
        ),
        (
            {"examples.json": described(FLUTE, LEAD)[:-40], f"audio/{FLUTE}.wav": b"", f"audio/{LEAD}.wav": b""},
            r"nsynth-valid/examples.json: is no JSON after 1 notes \(.*\); download the archive again",
        ),
        ({"examples.json": b"{}"}, "nsynth-valid/examples.json: describes no note"),
        ({"examples.json": b"[]"}, "nsynth-valid/examples.json: describes no note"),
        ({"examples.json": b"\xff\xfe{}"}, "nsynth-valid/examples.json: is no JSON after 0 notes"),
        ({f"audio/{FLUTE}.wav": b""}, "has no member 'nsynth-valid/examples.json'"),
        (
            {"examples.json": json.dumps({FLUTE: fields_of(FLUTE) | {"pitch": 1}}).encode(), f"audio/{FLUTE}.wav": b""},
            f"nsynth-valid.jsonwav.tar.gz: nsynth-valid/examples.json: '{FLUTE}': pitch is 1, its name says 72",
        ),
    ],
)
def test_audio_and_descriptions_that_do_not_fit_together_are_named(
    members: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match=message):
        clips(archive_files(tmp_path, valid=members))


def test_an_instrument_with_two_numbers_is_refused(tmp_path: Path) -> None:
    other = "flute_acoustic_001-073-100"
    examples = json.dumps({FLUTE: fields_of(FLUTE, 7), other: fields_of(other, 8)}).encode()
    members = {"examples.json": examples, f"audio/{FLUTE}.wav": b"", f"audio/{other}.wav": b""}
    with pytest.raises(IntegrityError, match="flute_acoustic_001 is number 8 here and 7 elsewhere"):
        clips(archive_files(tmp_path, train=members))


def test_of_a_large_description_only_its_bytes_are_in_memory(tmp_path: Path) -> None:
    names = [f"bass_electronic_{i:03}-{pitch:03}-127" for i in range(16) for pitch in range(21, 109)]
    shuffled = random.Random(0).sample(names, len(names))
    examples = described(*shuffled)
    files = archive_files(tmp_path, train={f"audio/{name}.wav": b"" for name in names} | {"examples.json": examples})
    found = [clip.recording for clip in clips(files)]
    assert found == [*shuffled, "vocal_acoustic_001-060-127", "vocal_acoustic_002-060-127"]
    assert len(examples) > 500_000
    tracemalloc.start()
    try:
        count = sum(1 for _ in nsynth.read(files, Config()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 1410
    assert peak < 3 * len(examples)  # names included; parsed at once the description alone takes four times its bytes


# --- known defects


@pytest.mark.parametrize(
    ("note", "defect"),
    [
        ("brass_acoustic_046-083-025", None),
        ("brass_acoustic_046-084-025", "noise"),
        ("brass_acoustic_046-108-127", "noise"),
        ("brass_acoustic_045-100-127", None),
        ("bass_synthetic_009-009-025", "pitch"),
        ("bass_synthetic_009-020-025", "pitch"),
        ("bass_synthetic_009-021-025", None),
        ("bass_synthetic_020-060-020", None),
        ("mallet_acoustic_056-108-050", None),
        ("mallet_acoustic_056-109-050", "pitch"),
        ("mallet_acoustic_056-120-050", "pitch"),
        ("organ_acoustic_003-053-127", None),  # a single velocity: meant so
    ],
)
def test_known_defects_are_found_by_their_names(note: str, defect: str | None) -> None:
    clip = Clip(f"nsynth/{note}@0", "nsynth", note, f"nsynth/{note}", "train")
    found = [name for name, patterns in nsynth.KNOWN_DEFECTS.items() if is_excluded(clip, patterns)]
    assert found == ([] if defect is None else [defect])


# --- real notes


def test_real_notes_in_the_real_layout_are_read(shared: Path, tmp_path: Path) -> None:
    files = mirror_files("nsynth", Config(), shared, tmp_path)
    official = clips(files, split="official")
    by_part = {part: [clip for clip in official if clip.partition == part] for part in ("train", "valid", "test")}
    assert {part: len(found) for part, found in by_part.items()} == {"train": 37, "valid": 12, "test": 12}
    instruments = {part: {clip.recording.rsplit("-", 2)[0] for clip in found} for part, found in by_part.items()}
    assert not instruments["train"] & (instruments["valid"] | instruments["test"])
    assert instruments["valid"] & instruments["test"] == {"reed_acoustic_018"}


@pytest.mark.parametrize(
    ("note_str", "present", "unknown"),
    [
        ("guitar_acoustic_000-060-100", {"plucked_string", "acoustic_guitar"}, set()),
        ("bass_electronic_000-040-100", {"plucked_string", "electric_bass"}, {"synth"}),
        ("keyboard_acoustic_000-060-100", {"key"}, {"piano"}),
        ("string_acoustic_000-060-100", {"bowed_string"}, {"violin"}),
        ("vocal_acoustic_000-060-100", {"voice"}, {"singer"}),
        ("reed_synthetic_000-060-100", {"synth"}, set(OUTPUTS) - {"synth"}),
    ],
)
def test_a_family_and_its_source_say_which_of_the_fifteen_outputs_sound(
    note_str: str, present: set[str], unknown: set[str], tmp_path: Path
) -> None:
    members = {f"audio/{note_str}.wav": b"", "examples.json": described(note_str)}
    clip = clips(archive_files(tmp_path, train=members))[0]
    hierarchy = dict(clip.hierarchy or {})
    assert {name for name, label in hierarchy.items() if label.presence == PRESENT} == present
    assert set(OUTPUTS) - set(hierarchy) == unknown
