"""Augmentations from one line of text."""

import pytest
import torch
from augmenting import waveforms

from tutti.augment.draw import generator_for
from tutti.augment.presets import lumen_best
from tutti.augment.transforms.frequency_mask import FrequencyMask
from tutti.augment.transforms.mixup import Mixup
from tutti.augment.transforms.sum_with_n import SumWithN
from tutti.augment.transforms.time_shift import TimeShift
from tutti.datasets.errors import UsageError
from tutti.train.fitting.augmentation import Augmentation, make_augmentation, vary


def test_no_text_is_no_augmentation() -> None:
    assert make_augmentation("") == Augmentation()


def test_a_preset_is_the_papers_chain() -> None:
    assert make_augmentation("lumen_best").waveform == lumen_best()


def test_a_presets_fields_and_probabilities_are_changed_by_name() -> None:
    chain = make_augmentation("lumen_best(sum_with_n.num=3, time_shift.probability=0.25)").waveform
    assert chain is not None
    assert [(effect.transform, effect.probability) for effect in chain.effects[:2]] == [
        (SumWithN(num=3), 1.0),
        (TimeShift(), 0.25),
    ]
    nested = make_augmentation("nsynth_pretraining(gain.min_gain_db=-3)").waveform
    assert "min_gain_db=-3" in repr(nested)
    assert "min_gain_db=-20" not in repr(nested)


def test_a_preset_that_asks_for_an_argument_takes_it() -> None:
    keeping = make_augmentation("musical_mixtures(musical=true)").waveform
    moving = make_augmentation("musical_mixtures(musical=false)").waveform
    assert keeping is not None
    assert moving is not None
    assert (len(keeping.effects), len(moving.effects), moving.order) == (4, 6, "random")


def test_a_list_is_parted_at_the_front_end() -> None:
    made = make_augmentation("sum_with_n(num=3,counts=added) frequency_mask@0.5 time_shift@0.3")
    assert made.waveform is not None
    assert made.spectrogram is not None
    assert [(effect.transform, effect.probability) for effect in made.waveform.effects] == [
        (SumWithN(num=3, counts="added"), 1.0),
        (TimeShift(), 0.3),
    ]
    assert [(effect.transform, effect.probability) for effect in made.spectrogram.effects] == [(FrequencyMask(), 0.5)]


def test_embeddings_are_varied_where_there_is_no_waveform() -> None:
    made = make_augmentation("openmic_bilstm", has_waveform=False)
    assert made.waveform is None
    assert made.spectrogram is not None
    assert made.spectrogram.effects[0].transform == Mixup(alpha=0.2, target_lufs=None)
    with pytest.raises(UsageError, match="time_shift changes waveforms, and this model hears embeddings"):
        make_augmentation("time_shift", has_waveform=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lumen_bets", r"no preset or transform 'lumen_bets' \(did you mean 'lumen_best'\?\)"),
        ("time_shift(max=1)", "time_shift: no field 'max'"),
        ("time_shift(max_share)", "'max_share' is no field=value"),
        ("time_shift@2", r"probability 2\.0 is not in \[0, 1\]"),
        ("time_shift@often", "@often is no number"),
        ("time_shift(max_share=far)", "expected float, got 'far'"),
        ("lumen_best(pitch_shift.probability=1)", "no transform 'pitch_shift' in it"),
        ("time_shift; gain", "cannot read"),
        ("background_noise", "needs recordings; --set noises=FOLDER"),
        ("musical_mixtures", r"needs musical, as in musical_mixtures\(musical=true\)"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_augmentation(text)


def test_rows_of_a_batch_are_varied_as_in_the_whole_batch() -> None:
    chain = make_augmentation("sum_with_n time_shift@0.5 pitch_shift@0.5 mixup@0.5 colored_noise").waveform
    batch = waveforms(6)
    whole = vary(chain, batch, None, generator_for(0, 1, 2))
    for rows in (torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5])):
        part = vary(chain, batch, rows, generator_for(0, 1, 2))
        assert torch.allclose(part.signal, whole.signal[rows], atol=1e-5)
        assert torch.equal(part.targets.target, whole.targets.target[rows])
        assert torch.equal(part.targets.mask, whole.targets.mask[rows])
    assert not torch.allclose(whole.signal, batch.signal, atol=1e-3)
