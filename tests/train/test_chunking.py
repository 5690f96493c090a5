import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutti.train.chunking import Chunking, clip_probabilities, num_chunks, plan_chunks
from tutti.train.clips import Clips

LASTS = st.sampled_from(["repeat", "zero", "drop"])


def chunked(length: int, chunking: Chunking, fill: float = 0.0) -> list[list[float]]:
    """Chunks of the clip 1, 2, 3, ..., length."""
    values_T1, presence = torch.arange(1.0, length + 1)[:, None], torch.zeros(1, 1, dtype=torch.int8)
    clips = Clips(values_T1, torch.tensor([0]), torch.tensor([length]), presence, ("song",), "frames", fill=fill)
    plan = plan_chunks([length], chunking)
    clips_K, first_K = torch.from_numpy(plan.clips), torch.from_numpy(plan.first)
    chunks: list[list[float]] = clips.windows(clips_K, first_K, chunking.length, chunking.last)[..., 0].tolist()
    return chunks


def test_the_last_chunk_repeats_the_clip_from_its_start() -> None:
    # The paper's example: 10 s in chunks of 3; the last is 1 s and the first 2 s.
    assert chunked(10, Chunking(3)) == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 1, 2]]


def test_a_clip_shorter_than_a_chunk_is_repeated_as_often_as_it_takes() -> None:
    assert chunked(2, Chunking(5)) == [[1, 2, 1, 2, 1]]


def test_the_earlier_variant_pads_with_black() -> None:
    assert chunked(4, Chunking(3, last="zero"), fill=-80.0) == [[1, 2, 3], [4, -80, -80]]


def test_a_partial_chunk_can_be_dropped_but_never_the_only_one() -> None:
    assert chunked(8, Chunking(3, last="drop")) == [[1, 2, 3], [4, 5, 6]]
    assert chunked(2, Chunking(3, last="drop")) == [[1, 2, 1]]


def test_half_overlapping_chunks_begin_every_half_length() -> None:
    assert chunked(6, Chunking(4, hop=2)) == [[1, 2, 3, 4], [3, 4, 5, 6]]
    assert chunked(7, Chunking(4, hop=2)) == [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 1]]


def test_only_the_first_second_of_a_note_is_heard() -> None:
    assert chunked(64, Chunking(16, first_only=True)) == [list(range(1, 17))]


def test_a_three_second_clip_makes_three_one_second_clips() -> None:
    assert num_chunks(48_000, Chunking(16_000)) == 3


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), LASTS)
def test_every_unit_is_in_a_chunk_unless_partial_ones_are_dropped(length: int, size: int, hop: int, last: str) -> None:
    hop = min(hop, size)
    plan = plan_chunks([length], Chunking(size, hop=hop, last=last))  # type: ignore[arg-type]
    assert plan.first.tolist() == list(range(0, len(plan) * hop, hop))
    if last != "drop":
        assert (len(plan) - 1) * hop + size >= length
        assert len(plan) == 1 or (len(plan) - 2) * hop + size < length  # not one chunk more than that takes
    elif length >= size:
        assert (len(plan) - 1) * hop + size <= length < len(plan) * hop + size


def test_chunks_of_many_clips_carry_their_clips_index() -> None:
    plan = plan_chunks([3, 7, 1], Chunking(3))
    assert plan.clips.tolist() == [0, 1, 1, 1, 2]
    assert plan.first.tolist() == [0, 0, 3, 6, 0]


def test_an_empty_clip_is_refused_by_its_index() -> None:
    with pytest.raises(ValueError, match="clip 1 is empty"):
        plan_chunks([3, 0], Chunking(3))


def test_no_clips_have_no_chunks() -> None:
    assert len(plan_chunks([], Chunking(3))) == 0


def test_chunks_know_when_they_are_heard() -> None:
    plan = plan_chunks([40_000], Chunking(16_000))
    assert plan.spans_s(16_000) == [(0.0, 1.0), (1.0, 2.0), (2.0, 2.5)]


LOGITS = torch.tensor([[0.0, 3.0], [-2.0, 1.0], [1.0, -4.0]])
CLIPS = np.array([0, 1, 1])


def sigmoid(values: list[list[float]]) -> np.ndarray:
    return 1 / (1 + np.exp(-np.array(values)))


def test_a_clips_probability_is_the_greatest_or_a_mean_of_its_chunks() -> None:
    assert clip_probabilities(LOGITS, CLIPS, "max") == pytest.approx(sigmoid([[0.0, 3.0], [1.0, 1.0]]))
    assert clip_probabilities(LOGITS, CLIPS, "mean_logits") == pytest.approx(sigmoid([[0.0, 3.0], [-0.5, -1.5]]))
    means = (sigmoid([[-2.0, 1.0]]) + sigmoid([[1.0, -4.0]])) / 2
    assert clip_probabilities(LOGITS, CLIPS, "mean")[1] == pytest.approx(means[0])


def test_a_chunking_without_a_length_is_refused() -> None:
    for chunking in ({"length": 0}, {"length": 3, "hop": 0}):
        with pytest.raises(ValueError, match="length and hop must be at least 1"):
            Chunking(**chunking)
