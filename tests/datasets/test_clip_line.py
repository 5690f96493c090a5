"""A clip's row as a line: every row comes back, and lines are short."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.datasets.clip_line import encode, unpack

AUDIO: dict[str, Any] = {
    "pcm_sha256": "0f" * 32,
    "native_sha256": "ab" * 16,
    "source_sha256": "cd" * 16,
    "sketch": "0123456789abcdef",
    "sample_rate": 16000,
    "num_samples": 160000,
    "native_sample_rate": 44100,
    "codec": "OGG/VORBIS",
    "decoder": "libsndfile",
    "loudness_lufs": -12.001,
    "gain_db": 8.72,
    "true_peak_dbtp": None,
    "silence_share": 0.0101,
}
KEPT: dict[str, Any] = {
    "id": "openmic2018/127109_107520@0",
    "source": "openmic2018",
    "recording": "127109_107520",
    "group": "openmic2018/artist:30",
    "partition": "train",
    "start_s": 0.0,
    "end_s": 10.0,
    "license": "CC-BY-4.0",
    "status": "kept",
    "split": "train",
    "labels": {
        "cello": [1, 0.75, "crowd"],
        "organ": [0, 0.094666, "crowd"],
        "voice": [1, None, "human"],
        "piano": [0, 1.0, "pseudo:c22fabd82b16"],
    },
    "audio": AUDIO,
}


def test_the_line_of_a_kept_clip() -> None:
    assert encode(KEPT) == (
        '{"audio":["Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8","q6urq6urq6urq6urq6urqw","zc3Nzc3Nzc3Nzc3Nzc3NzQ",'
        '"ASNFZ4mrze8",16000,160000,44100,"OGG/VORBIS","libsndfile",-12.001,8.72,null,0.0101],'
        '"group":"openmic2018/artist:30","id":"openmic2018/127109_107520@0",'
        '"labels":{"crowd":"+cello=0.75 -organ=0.094666","human":"+voice","pseudo:c22fabd82b16":"-piano=1.0"},'
        '"license":"CC-BY-4.0","partition":"train","split":"train"}'
    )


def test_the_line_of_a_video_that_is_gone() -> None:
    row = {
        "id": "audioset/-DS6c65rZcy@30000", "source": "audioset", "recording": "-DS6c65rZcy",
        "group": "audioset/-DS6c65rZcy", "start_s": 30.0, "labels": {}, "status": "gone", "stage": "download",
        "reason": "not_in_mirror",
    }  # fmt: skip
    assert encode(row) == (
        '{"id":"audioset/-DS6c65rZcy@30000","reason":"not_in_mirror","stage":"download","status":"gone"}'
    )
    assert unpack(encode(row).encode()) == row


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"recording": "another name"},
        {"group": "irmas/song"},
        {"start_s": 0.25},
        {"start_s": 0.25, "end_s": 10.25},
        {"end_s": 9.99},
        {"audio": AUDIO | {"sample_rate": 0}},
        {"source": "other"},
        {"labels": {}},
        {"labels": {"a b": [1, None, "human"]}},  # no name of an instrument
        {"labels": {"cello": [2, None, "human"]}},  # no presence
        {"labels": {"cello": [1, None, "human", "and more"]}},
        {"audio": {"pcm_sha256": "short"}},
        {"audio": AUDIO | {"pcm_sha256": "not a digest"}},
        {"audio": AUDIO | {"sketch": ""}},
        {"audio": AUDIO | {"added_by_a_later_version": [1]}},
        {"added_by_a_later_version": {"a": 1}},
    ],
    ids=str,
)
def test_every_row_comes_back(changes: dict[str, Any]) -> None:
    row = KEPT | changes
    assert unpack(encode(row).encode()) == row
    assert encode(unpack(encode(row).encode())) == encode(row)


def test_a_clip_whose_end_is_not_known_comes_back() -> None:
    row = {name: value for name, value in KEPT.items() if name != "end_s"}
    assert unpack(encode(row).encode()) == row


@given(
    key=st.text(min_size=1).filter(lambda key: not any("\ud800" <= c <= "\udfff" for c in key)),
    start_ms=st.integers(0, 10**7),
    labels=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True),
        st.tuples(
            st.sampled_from([0, 1]),
            st.none() | st.floats(0, 1).map(lambda value: round(value, 6)),
            st.sampled_from(["human", "crowd", "weak"]),
        ).map(list),
    ),
)
def test_any_key_start_and_labels_come_back(key: str, start_ms: int, labels: dict[str, Any]) -> None:
    row = KEPT | {"id": f"folder/{key}@{start_ms}", "recording": key, "labels": labels}
    assert unpack(encode(row).encode()) == row
    assert "\n" not in encode(row)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[1]", "not a clip row"),
        ("{}", "needs an id"),
        ('{"id":"a"}', "its id is 'a'"),
        ('{"id":"a/b@0"', "delimiter"),
        ('{"id":"a/b@0","audio":[1,2]}', "expected the 13 values"),
        ('{"id":"a/b@0","labels":["cello"]}', "labels: expected an object"),
        ('{"id":"a/b@0","labels":{"human":"cello"}}', "'cello' is no"),
        ('{"id":"a/b@0","labels":{"human":"+cello -cello"}}', "stands twice"),
        ('{"id":"a/b@0","labels":{"human":"+cello=much"}}', "'\\+cello=much' is no"),
    ],
)
def test_what_is_no_line_is_a_value_error_that_says_why(line: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        unpack(line.encode())
