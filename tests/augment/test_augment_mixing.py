import math

import pytest
import torch
from augmenting import CLASSES, RATE, generator, noise_rows, single_instruments, spectrograms, waveforms

from tutti.augment.batch import Batch, batch_of
from tutti.augment.loudness import loudness_lufs
from tutti.augment.mixing import other_instruments, same_instruments
from tutti.augment.transforms.concat_n import ConcatN
from tutti.augment.transforms.concat_same_instrument import ConcatSameInstrument, sounding
from tutti.augment.transforms.exponential_n import ExponentialN
from tutti.augment.transforms.mixup import Mixup
from tutti.augment.transforms.sum_with_n import SumWithN


def presence(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int8)


def constants(*values: float, length: int = 4) -> torch.Tensor:
    """Rows that hold one number each."""
    return torch.tensor(values)[:, None].repeat(1, length)


def partners(*rows: list[int]) -> dict[str, torch.Tensor]:
    return {"partners": torch.tensor(rows)}


def test_partners_play_other_instruments_each_another_one() -> None:
    own, pool = single_instruments(200), single_instruments(20)
    drawn = other_instruments(own, pool, torch.full((200,), 3), generator())
    instruments = torch.cat([own.argmax(1)[:, None], pool.argmax(1)[drawn]], dim=1)
    assert drawn.shape == (200, 3)
    assert all(len(set(row)) == 4 for row in instruments.tolist())


def test_instruments_are_drawn_evenly_whatever_their_number_of_clips() -> None:
    pool = presence([1, 0, 0], [0, 1, 0], *[[0, 0, 1]] * 98)
    own = presence([1, 0, 0]).expand(2_000, 3)
    drawn = other_instruments(own, pool, torch.ones(2_000, dtype=torch.int64), generator())[:, 0]
    assert (drawn == 1).double().mean() == pytest.approx(0.5, abs=0.04)
    assert len(set(drawn.tolist())) == 99


def test_unknown_does_not_hinder_a_partner_but_known_presence_does() -> None:
    pool = presence([1, 0, -1], [0, 1, 1])
    drawn = other_instruments(presence([-1, 1, -1]), pool, torch.tensor([2]), generator())
    assert drawn.tolist() == [[0, -1]]  # the second clip holds instrument 1, which sounds already


def test_clips_without_a_known_instrument_are_no_partners() -> None:
    pool = presence([0, 0, 0], [-1, -1, -1])
    drawn = other_instruments(presence([1, 0, 0]), pool, torch.tensor([1]), generator())
    assert drawn.tolist() == [[-1]]


@pytest.mark.parametrize(
    ("counts", "num", "heard"),
    [("total", 2, 2), ("added", 2, 3), ("total", 1, 1), ("added", 0, 1), ("total", 0, 1), ("added", 5, 5)],
)
def test_sum_with_n_counts_in_total_or_added(counts: str, num: int, heard: int) -> None:
    mixed = SumWithN(num=num, counts=counts)(waveforms(10), generator())  # type: ignore[arg-type]
    assert ((mixed.presence == 1).sum(1) == heard).all()  # five instruments are all there are


def test_the_sum_is_the_mean_of_clips_at_a_peak_of_1_and_its_labels_are_or() -> None:
    labels = presence([1, 0, -1], [0, 1, 0], [-1, 0, 1])
    batch = batch_of(constants(0.5, -0.1, 2.0), labels, sample_rate=RATE)
    mixed = SumWithN(num=3).apply(batch, partners([1, 2], [-1, -1], [0, -1]))
    assert torch.allclose(mixed.signal, constants(1 / 3, -1, 1))
    assert mixed.presence.tolist() == [[1, 1, 1], [0, 1, 0], [1, 0, 1]]


def test_or_with_an_unknown_partner_is_unknown() -> None:
    batch = batch_of(constants(1, 1), presence([0, 0, 1], [-1, 0, -1]), sample_rate=RATE)
    assert SumWithN().apply(batch, partners([1], [0])).presence.tolist() == [[-1, 0, 1], [-1, 0, 1]]


def test_a_very_soft_clip_is_not_made_loud() -> None:
    batch = batch_of(constants(1e-5), presence([1]), sample_rate=RATE)
    assert SumWithN().apply(batch, partners([-1])).signal[0, 0].item() == pytest.approx(1e-2)


def test_partners_come_from_the_pool_where_there_is_one() -> None:
    pool = batch_of(constants(3.0), presence([0, 1]), sample_rate=RATE)
    batch = batch_of(constants(1.0, 1.0), presence([1, 0], [1, 0]), sample_rate=RATE, pool=pool)
    parameters = SumWithN().draw(batch, generator())
    assert parameters["partners"].tolist() == [[0], [0]]
    assert SumWithN().apply(batch, parameters).presence.tolist() == [[1, 1], [1, 1]]


def test_exponential_n_adds_mostly_few() -> None:
    transform = ExponentialN()
    ten = torch.eye(10, dtype=torch.int8)
    pool = batch_of(torch.zeros(10, 1), ten, sample_rate=RATE)
    batch = batch_of(torch.zeros(5_000, 1), ten.repeat(500, 1), sample_rate=RATE, pool=pool)
    drawn = transform.draw(batch, generator())["partners"]
    shares = torch.bincount((drawn >= 0).sum(1), minlength=6) / 5_000
    assert shares.tolist() == pytest.approx([0.6337, 0.2331, 0.0858, 0.0316, 0.0116, 0.0043], abs=0.02)
    assert transform.probabilities().sum() == pytest.approx(1)


def test_concatenation_joins_in_time_and_repeats_where_an_example_draws_fewer() -> None:
    labels = presence([1, 0, 0], [0, -1, 0], [0, 0, 1])
    batch = batch_of(constants(1, 2, 3, length=2), labels, sample_rate=RATE)
    parameters = {"partners": torch.tensor([[1, 2], [0, -1], [-1, -1]]), "count": torch.tensor([3, 2, 1])}
    joined = ConcatN(num=3, min_num=1).apply(batch, parameters)
    assert joined.signal.tolist() == [[1, 1, 2, 2, 3, 3], [2, 2, 1, 1, 2, 2], [3, 3, 3, 3, 3, 3]]
    assert joined.presence.tolist() == [[1, -1, 1], [1, -1, 0], [0, 0, 1]]


def test_concatenation_joins_frames_of_features_too() -> None:
    batch = spectrograms(4, num_frames=7, num_bins=3)
    joined = ConcatN(num=2)(batch, generator())
    assert joined.signal.shape == (4, 14, 3)
    assert torch.equal(joined.signal[:, :7], batch.signal)


def notes(*lengths: int) -> torch.Tensor:
    """(len, 12): row n holds n + 1 for some samples, with two samples of silence before."""
    rows = torch.zeros(len(lengths), 12)
    for row, length in enumerate(lengths):
        rows[row, 2 : 2 + length] = row + 1
    return rows


def test_notes_of_one_instrument_are_trimmed_joined_and_repeated() -> None:
    batch = batch_of(notes(3, 4, 5), presence([1, 0], [1, 0], [0, 1]), sample_rate=RATE)
    joined = ConcatSameInstrument(num=3).apply(batch, partners([1, -1], [0, 0], [-1, -1]))
    assert joined.signal.tolist() == [
        [1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 2, 2],
        [2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 2, 2],
        [3] * 12,
    ]
    assert joined.presence.tolist() == [[1, 0], [1, 0], [0, 1]]


def test_only_clips_of_just_the_same_instruments_are_joined() -> None:
    pool = presence([1, 0], [1, 1], [0, 1], [1, -1])
    drawn = same_instruments(presence([1, 0], [1, 1], [0, 0]), pool, 50, generator())
    assert set(drawn[0].tolist()) == {0, 3}
    assert set(drawn[1].tolist()) == {1}
    assert set(drawn[2].tolist()) == {-1}


def test_what_sounds_lies_between_the_first_and_last_sample_within_40_db_of_the_peak() -> None:
    rows = torch.tensor([[0, 0.009, 0.011, 1, 0.5, 0.011, 0.009, 0], [0] * 8])
    first, length = sounding(rows, 40.0)
    assert first.tolist() == [2, 0]
    assert length.tolist() == [4, 8]


def test_mixup_blends_signals_and_labels_by_one_weight() -> None:
    batch = batch_of(constants(1, 3), presence([1, 0, 0], [0, 1, -1]), sample_rate=RATE)
    parameters = {"partners": torch.tensor([[1], [0]]), "weight": torch.tensor([0.75, 1.0], dtype=torch.float64)}
    mixed = Mixup(target_lufs=None).apply(batch, parameters)
    assert mixed.signal.tolist() == [[1.5] * 4, [3] * 4]
    assert mixed.targets.target.tolist() == [[0.75, 0.25, 0], [0, 1, 0]]
    assert mixed.targets.mask.tolist() == [[True, True, False], [True, True, False]]


def test_mixup_brings_both_clips_to_one_loudness_first() -> None:
    quiet_and_loud = noise_rows(2, 1.0) * torch.tensor([[0.01], [1.0]])
    batch = batch_of(quiet_and_loud, single_instruments(2), sample_rate=RATE)
    parameters = {"partners": torch.tensor([[1], [0]]), "weight": torch.tensor([1.0, 0.5], dtype=torch.float64)}
    mixed = Mixup(max_gain_db=60).apply(batch, parameters).signal
    expected = [-12.0, -12 + 20 * math.log10(math.sqrt(0.5))]  # two independent halves
    assert loudness_lufs(mixed, RATE).tolist() == pytest.approx(expected, abs=0.1)


def test_mixup_weights_are_beta_distributed() -> None:
    weight = Mixup(alpha=0.3).draw(many(4_000), generator())["weight"]
    assert weight.mean() == pytest.approx(0.5, abs=0.02)
    assert weight.var() == pytest.approx(0.25 / 1.6, abs=0.01)  # 1 / (4 (2 alpha + 1))


def many(count: int) -> Batch:
    return batch_of(torch.zeros(count, 1), single_instruments(count), sample_rate=RATE)


def test_features_are_mixed_as_they_are() -> None:
    batch = spectrograms(4)
    assert Mixup(alpha=0.2, target_lufs=None)(batch, generator()).signal.shape == batch.signal.shape
    with pytest.raises(ValueError, match="spectrograms have no loudness to normalize; set target_lufs=None"):
        Mixup()(batch, generator())


def test_labels_level_out_as_more_clips_are_summed() -> None:
    """Lumen 2023's figure: the more instruments are added, the more even is their distribution."""
    counts = torch.tensor([400, 50, 30, 15, 5])
    rows = torch.eye(CLASSES, dtype=torch.int8).repeat_interleave(counts, dim=0)
    batch = batch_of(torch.ones(500, 1), rows, sample_rate=RATE)
    unevenness = []
    for added in range(4):
        heard = (SumWithN(num=added, counts="added")(batch, generator()).presence == 1).double().mean(0)
        unevenness.append((heard.max() / heard.min()).item())
    assert unevenness == sorted(unevenness, reverse=True)
    assert unevenness[0] == 80
    assert unevenness[3] < 2
