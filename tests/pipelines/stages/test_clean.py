"""What no training set should hold: one tiny input, one reason."""

import pytest
from rows import clip, stored

from tutti.datasets.record import Rejected
from tutti.pipelines.stages.clean import CleanConfig, clean

RATE = 44_100


DEFAULTS = CleanConfig()


def cleaned(*, declared_s=None, config=DEFAULTS, **facts):
    return clean(clip(audio=stored(**facts), declared_s=declared_s), config=config)


def lasting(duration_s):
    return {"native_num_samples": round(duration_s * RATE), "native_sample_rate": RATE}


def reason(row):
    return row.reason if isinstance(row, Rejected) else "kept"


def test_a_good_clip_passes_unchanged():
    good = clip(declared_s=10.0)

    assert clean(good, config=CleanConfig()) is good


@pytest.mark.parametrize(
    ("facts", "expected", "value"),
    [
        (lasting(0.5), "too_short", 0.5),
        ({"silence_share": 0.93}, "silent", 0.93),
        ({"loudness_lufs": None, "silence_share": 0.4}, "silent", 0.4),
        ({"active": (), "silence_share": 1.0}, "silent", 1.0),
        ({"active": ((0.0, 9.0),), "flatness": 0.998}, "noise", 0.998),
        ({"complete": False}, "truncated", 10.0),
        ({**lasting(9.5), "declared_s": 10.0}, "truncated", 9.5),
        ({**lasting(10.5), "declared_s": 10.0}, "truncated", 10.5),
    ],
    ids=[
        "too short",
        "silent",
        "no loudness",
        "silent stem",
        "white noise",
        "no end mark",
        "shorter than declared",
        "longer than declared",
    ],
)
def test_each_defect_has_its_reason_and_the_value_that_decided(facts, expected, value):
    row = cleaned(**facts)

    assert isinstance(row, Rejected)
    assert (row.stage, row.reason, row.value, row.status) == ("clean", expected, value, "rejected")
    assert row.clip.id == "irmas/song@0"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"native_num_samples": 44_100}, "kept"),  # exactly 1 s
        ({"native_num_samples": 44_099}, "too_short"),
        ({"silence_share": 0.8}, "kept"),
        ({"silence_share": 0.95, "active": ((0.0, 0.5),), "flatness": 0.725}, "kept"),  # a stem rests; a cabasa
        ({"silence_share": 0.800001}, "silent"),
        ({"native_num_samples": 436_590, "declared_s": 10.0}, "kept"),  # 0.1 s short
        ({"native_num_samples": 436_589, "declared_s": 10.0}, "truncated"),
        ({"native_num_samples": 445_410, "declared_s": 10.0}, "kept"),  # 0.1 s long
        ({"native_num_samples": 445_411, "declared_s": 10.0}, "truncated"),
        ({"native_num_samples": 132_299, "declared_s": 3.0}, "kept"),  # IRMAS: one sample short of 3 s
    ],
)
def test_a_value_at_the_threshold_is_still_good(facts, expected):
    assert reason(cleaned(**facts)) == expected


def test_without_a_declared_duration_any_length_is_right():
    assert reason(cleaned(**lasting(123.4))) == "kept"


def test_the_duration_is_that_of_the_decoded_excerpt_not_of_the_stored_audio():
    assert reason(cleaned(**lasting(0.9999), num_samples=16_000)) == "too_short"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({**lasting(0.5), "declared_s": 10.0, "complete": False, "silence_share": 1.0}, "truncated"),
        ({**lasting(0.5), "complete": False, "silence_share": 1.0}, "truncated"),
        ({**lasting(0.5), "silence_share": 1.0, "loudness_lufs": None}, "too_short"),
        ({"silence_share": 1.0, "loudness_lufs": None}, "silent"),
    ],
)
def test_the_first_reason_that_fits_is_given(facts, expected):
    assert reason(cleaned(**facts)) == expected


@pytest.mark.parametrize(
    ("config", "facts", "expected"),
    [
        (CleanConfig(min_duration_s=0.5), lasting(0.6), "kept"),
        (CleanConfig(min_duration_s=0.0), lasting(0.001), "kept"),
        (CleanConfig(max_silence_share=0.5), {"silence_share": 0.6}, "silent"),
        (CleanConfig(max_duration_error_s=1.0), {**lasting(9.5), "declared_s": 10.0}, "kept"),
        (CleanConfig(max_duration_error_s=0.5), {**lasting(9.5), "declared_s": 10.0}, "kept"),  # exactly
        (CleanConfig(max_duration_error_s=0.5), {**lasting(9.4), "declared_s": 10.0}, "truncated"),
    ],
)
def test_thresholds_are_those_of_the_configuration(config, facts, expected):
    assert reason(cleaned(config=config, **facts)) == expected


def test_the_detail_names_both_durations():
    assert cleaned(**lasting(9.5), declared_s=10.0).detail == "decoded 9.500 s of 10.000 s"


def test_a_clip_that_was_not_prepared_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="irmas/song@0: has no stored audio; run prepare before clean"):
        clean(clip(audio=None), config=CleanConfig())


def test_a_rejected_clip_keeps_its_labels_and_audio():
    one = clip(audio=stored(silence_share=0.9), license="CC-BY-4.0")

    assert clean(one, config=CleanConfig()).clip is one
