"""Activity of a stem: spans in which it sounds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.pipelines.decoding.activity import active_spans
from tutti.pipelines.decoding.config import ActivityConfig

RATE = 16_000
CONFIG = ActivityConfig()


def tones(*parts: tuple[float, float]) -> np.ndarray:
    """Make tones of 440 Hz one after another: (seconds, amplitude of full scale)."""
    waves = [amplitude * np.sin(2 * np.pi * 440 * np.arange(round(s * RATE)) / RATE) for s, amplitude in parts]
    return np.round(np.concatenate(waves) * 32_767).astype(np.int16)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(2.0, 0.5)], [[0.0, 2.0]]),
        ([(1.0, 0.5), (1.0, 0.0), (1.0, 0.5)], [[0.0, 1.0], [2.0, 3.0]]),
        ([(1.0, 0.5), (0.3, 0.0), (1.0, 0.5)], [[0.0, 2.3]]),  # a breath
        ([(1.0, 0.5), (0.4, 0.0), (1.0, 0.5)], [[0.0, 1.0], [1.4, 2.4]]),
        ([(1.0, 0.5), (1.0, 0.01), (1.0, 0.5)], [[0.0, 1.0], [2.0, 3.0]]),  # RMS 37 dB below the peak
        ([(1.0, 0.5), (1.0, 0.02), (1.0, 0.5)], [[0.0, 3.0]]),  # 31 dB below
        ([(1.05, 0.5), (1.0, 0.0)], [[0.0, 1.1]]),
        ([(0.5, 0.0), (0.25, 0.5)], [[0.5, 0.75]]),  # not past the end
        ([(3.0, 0.0)], []),
    ],
)
def test_a_stem_sounds_where_its_windows_are_loud(
    parts: list[tuple[float, float]], expected: list[list[float]]
) -> None:
    assert active_spans(tones(*parts), RATE, 0.001, CONFIG) == expected


def test_what_is_all_below_the_floor_does_not_sound() -> None:
    assert active_spans(tones((1.0, 0.001)), RATE, 0.001, CONFIG) == []
    assert active_spans(tones((1.0, 0.002)), RATE, 0.001, CONFIG) == [[0.0, 1.0]]
    assert active_spans(np.zeros(0, np.int16), RATE, 0.001, CONFIG) == []
    assert active_spans(tones((1.0, 1.0)), RATE, 5.0, CONFIG) == []  # a gain of 74 dB lifts the floor above all


@given(st.lists(st.tuples(st.integers(1, 12), st.sampled_from([0.0, 0.001, 0.02, 0.9])), min_size=1, max_size=8))
def test_spans_ascend_apart_from_each_other_and_end_with_the_stem(parts: list[tuple[int, float]]) -> None:
    samples = tones(*((tenths / 10, amplitude) for tenths, amplitude in parts))
    spans = active_spans(samples, RATE, 0.001, CONFIG)
    times = [time for span in spans for time in span]
    assert times == sorted(times)
    assert all(later - end > 0.3 for (_, end), (later, _) in itertools.pairwise(spans))
    assert all(0 <= time <= samples.size / RATE for time in times)


@given(st.integers(2, 6))
def test_a_louder_recording_of_the_same_sounds_at_the_same_times(factor: int) -> None:
    samples = tones((0.5, 0.1), (0.7, 0.0), (0.4, 0.05), (0.5, 0.002))
    assert active_spans(samples * np.int16(factor), RATE, 0.0, CONFIG) == active_spans(samples, RATE, 0.0, CONFIG)
