import math
from pathlib import Path

import pytest
import signals
import torch
from safetensors.torch import save_file

from tutti.train.model import count_parameters
from tutti.train.models.sincnet_resnet import Config, DictionaryEncoding, SincFilters, build

SAMPLE_RATE = 16_000


@pytest.mark.parametrize(
    ("blocks", "shared", "num_weights"),
    [
        ("3,4,6,3", False, 1_348_293),  # the paper: 1.3 M
        ("3,4,6,3", True, 836_805),  # 836 K
        ("3,3,4,3", True, 753_221),  # 753 K
        ("2,2,2,2", True, 519_301),  # 519 K
    ],
)
def test_weights_are_as_many_as_the_paper_says(blocks: str, shared: bool, num_weights: int) -> None:
    with torch.random.fork_rng():
        assert count_parameters(build(Config(blocks=blocks, shared=shared), SAMPLE_RATE, 11)) == num_weights


def test_filters_of_the_paper_are_801_taps_every_12_ms() -> None:
    filters = SincFilters(Config(), SAMPLE_RATE)
    assert filters.kernels().shape == (128, 801)
    assert filters(torch.zeros(1, SAMPLE_RATE)).shape == (1, 84, 128)  # frames at 0, 192, ..., 15,936


def test_filters_begin_equally_spaced_in_mel_and_side_by_side() -> None:
    low, high = SincFilters(Config(), SAMPLE_RATE).cutoffs_hz()
    edges_mel = 2595 * torch.log10(1 + (low - 5) / 700)  # 5 Hz: min_low_hz on top of the learned part
    assert torch.allclose(edges_mel.diff(), edges_mel.diff().mean(), atol=0.01)
    assert torch.allclose(high[:-1], low[1:] + 5, atol=0.01)  # 5 Hz: min_band_hz
    assert (low[0].item(), high[-1].item()) == pytest.approx((10.0, 8_000.0), abs=0.1)


def test_a_filter_passes_its_band_evenly_and_stops_the_rest() -> None:
    filters = SincFilters(Config(kernel_ms=100.0), SAMPLE_RATE)
    spectrum = torch.fft.rfft(filters.kernels(), n=SAMPLE_RATE).abs()  # one bin per Hz
    low, high = (cutoff[115].item() for cutoff in filters.cutoffs_hz())
    assert high - low > 100
    # The kernel is scaled by 2 (f2 - f1) and not by the sample rate: a gain of rate / (2 band) in the band.
    gain = spectrum[115] * 2 * (high - low) / SAMPLE_RATE
    width = 4 * 1000 / 100.0 / 2  # of the Hamming window's main lobe, half: Hz
    inside = gain[math.ceil(low + width) : math.floor(high - width)]
    assert inside.min() > 0.98
    assert inside.max() < 1.02
    assert gain[: math.floor(low - 2 * width)].max() < 0.01
    assert gain[math.ceil(high + 2 * width) :].max() < 0.01


def test_a_tone_is_loudest_in_the_filter_around_it() -> None:
    filters = SincFilters(Config(), SAMPLE_RATE)
    tone = torch.from_numpy(signals.sine(1.0, frequency_hz=1_013.0, sample_rate=SAMPLE_RATE))
    power_N = filters(tone)[0, 10:-10].square().mean(dim=0)
    low, high = filters.cutoffs_hz()
    loudest = int(power_N.argmax())
    # 801 taps under a Hamming window blur by +-40 Hz, more than the filter's own 27.
    assert low[loudest] - 40 <= 1_013 <= high[loudest] + 40
    assert power_N[loudest] > 100 * power_N[(low > 1_200) | (high < 800)].max()


def test_the_sharing_blocks_use_one_second_convolution_per_stage() -> None:
    torch.manual_seed(0)
    model = build(Config(blocks="2,2", width=4, num_filters=8, shared=True), SAMPLE_RATE, 2)
    names = [name for name in model.state_dict() if ".second." in name]
    assert names == ["backbone.stages.0.second.0.weight", "backbone.stages.1.second.0.weight"]


def test_dictionary_encoding_of_features_on_a_center_is_zero_there() -> None:
    pool = DictionaryEncoding(2, 3)
    with torch.no_grad():
        pool.centers.copy_(torch.tensor([[10.0, 0, 0], [0, 10.0, 0]]))
        encoded = pool(pool.centers[None, [0, 0, 1]] + 0.0)
        shifted = pool(pool.centers[None, [0, 1]] + torch.tensor([0.5, 0, 0]))
    assert torch.allclose(encoded, torch.zeros(1, 6), atol=1e-4)
    assert torch.allclose(shifted, torch.tensor([[0.5, 0, 0, 0.5, 0, 0]]), atol=1e-4)  # mean residual per center


def test_fine_tuning_begins_with_the_backbone_of_the_pre_training_run(tmp_path: Path) -> None:
    sizes = {"blocks": "1,1", "width": 4, "num_filters": 8, "kernel_ms": 10.0, "num_centers": 2}
    torch.manual_seed(0)
    trained = build(Config(head="pretrain", hidden_features=6, **sizes), SAMPLE_RATE, 1006)  # type: ignore[arg-type]
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(1)
    model = build(Config(weights=str(tmp_path), **sizes), SAMPLE_RATE, 11)  # type: ignore[arg-type]
    waveform = torch.from_numpy(signals.noise(0.5, sample_rate=SAMPLE_RATE))
    assert torch.equal(model.eval().embed(waveform), trained.eval().embed(waveform))  # type: ignore[operator]
    assert model(waveform).shape == (1, 11)


def test_a_sample_rate_without_room_for_filters_is_refused() -> None:
    with pytest.raises(ValueError, match="sample rate 20 Hz leaves no band"):
        build(Config(), 20, 2)
