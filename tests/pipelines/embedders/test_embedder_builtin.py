"""The trained built-in embedder: the contract of all embedders, and that it hears instruments it was not trained on."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from signals import noise, silence, sine

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import file_sha256
from tutti.datasets.scores.composing import ComposeConfig, solo
from tutti.pipelines.embedders import builtin
from tutti.pipelines.embedders.builtin import FOLDER, RECIPE, WEIGHTS, TimbreNet, excerpts_of, leveled, load
from tutti.pipelines.embedders.exact_net import ExactNet, net_input
from tutti.pipelines.embedders.front_end import CONFIG, EXCERPT_SAMPLES, front_end
from tutti.pipelines.embedders.logmel import LogMelEmbedder
from tutti.pipelines.render.train_embedder import INSTRUMENTS, Excerpts, TrainConfig, publish, train
from tutti.pipelines.render.training_set import PROGRAMS
from tutti.pipelines.stages.embed import EmbedConfig, embedder_of, facts_of

RATE = 16_000

needs_weights = pytest.mark.skipif(not (FOLDER / WEIGHTS).exists(), reason=f"{WEIGHTS} is not in the checkout")


def tone(duration_s=3.0, *, frequency_hz=440.0, partials=6):
    time_s = np.arange(round(duration_s * RATE)) / RATE
    waves = [np.sin(2 * np.pi * n * frequency_hz * time_s) / n for n in range(1, partials + 1)]
    return (0.2 * sum(waves) * np.exp(-time_s)).astype(np.float32)


# --- the contract


@needs_weights
def test_the_protocol_is_a_name_a_dimension_a_digest_and_rows_of_float32():
    embedder = load()
    rows = embedder.embed([tone(), tone(frequency_hz=330.0)])

    assert (embedder.name, rows.shape, rows.dtype) == ("builtin", (2, embedder.dimension), np.float32)
    assert len(embedder.digest) == 64
    assert embedder.embed([]).shape == (0, embedder.dimension)
    assert embedder_of(EmbedConfig().with_embedder("builtin")) is embedder


@needs_weights
def test_the_weights_are_small_and_those_that_their_recipe_describes():
    recipe = json.loads((FOLDER / RECIPE).read_bytes())

    assert recipe["sha256"] == file_sha256(FOLDER / WEIGHTS)
    assert recipe["parameters"] <= 2_000_000
    assert (FOLDER / WEIGHTS).stat().st_size <= 8_000_000
    assert recipe["data"]["soundfonts"]
    assert recipe["programs"] == list(PROGRAMS)


@needs_weights
def test_the_manifest_names_the_weights_and_no_place():
    facts = facts_of(EmbedConfig(embedder="builtin"))

    assert facts["weights"] == file_sha256(FOLDER / WEIGHTS)
    assert facts["digest"] == load().digest
    assert "/" not in json.dumps(facts)


@needs_weights
def test_a_row_has_the_same_bits_in_any_batch():
    waveforms = [tone(length, frequency_hz=200.0 + 90 * length) for length in (1.0, 3.0, 2.5, 10.0, 30.0)]
    alone = np.vstack([load().embed([waveform]) for waveform in waveforms])

    assert np.array_equal(load().embed(waveforms), alone)
    assert np.array_equal(load().embed(waveforms[::-1])[::-1], alone)


@needs_weights
def test_another_process_with_other_threads_gives_the_same_bits():
    code = (
        "import sys, numpy as np; from tutti.pipelines.embedders.builtin import load; "
        "w = np.random.default_rng(3).standard_normal(100_000).astype(np.float32); "
        "sys.stdout.write(load().digest + load().embed([w]).tobytes().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": threads, "OMP_NUM_THREADS": threads},
        ).stdout
        for threads in ("1", "2")
    }  # fmt: skip

    assert len(outputs) == 1


@needs_weights
def test_it_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    load().embed([tone()])

    assert torch.get_num_threads() == before


@needs_weights
@pytest.mark.parametrize("gain", [0.001, 3.0])
def test_loudness_does_not_matter(gain):
    assert np.allclose(load().embed([tone() * np.float32(gain)]), load().embed([tone()]), atol=1e-3)


@needs_weights
@pytest.mark.parametrize("waveform", [silence(2.0, sample_rate=RATE)[0], sine(2.0, sample_rate=RATE)[0], tone(0.01)])
def test_silence_a_pure_tone_and_a_click_give_finite_numbers(waveform):
    assert np.isfinite(load().embed([waveform])).all()


@needs_weights
def test_a_bad_waveform_is_named_with_the_remedy():
    with pytest.raises(ValueError, match=r"waveform 1: expected mono samples .* got \(2, 9\); take one channel"):
        load().embed([tone(), np.zeros((2, 9), np.float32)])
    with pytest.raises(ValueError, match=r"waveform 0: holds values that are no numbers; decode it again"):
        load().embed([np.array([0.1, np.nan], np.float32)])


@pytest.mark.parametrize(("duration_s", "count"), [(0.5, 1), (3.0, 1), (3.01, 2), (10.0, 6), (60.0, 12)])
def test_a_clip_is_heard_in_excerpts_of_three_seconds_from_its_start_to_its_end(duration_s, count):
    waveform = noise(duration_s, sample_rate=RATE)[0]
    excerpts = excerpts_of(waveform)

    assert excerpts.shape == (count, EXCERPT_SAMPLES)
    assert np.sqrt(np.square(excerpts).mean(axis=1)) == pytest.approx(np.full(count, 0.1), rel=1e-3)


def test_silent_excerpts_of_a_clip_do_not_count():
    waveform = np.concatenate([noise(3.0, sample_rate=RATE)[0], np.zeros(9 * RATE, np.float32)])

    assert len(excerpts_of(waveform)) == 2  # the first, and the one that begins in its middle


def test_the_net_hears_levels_against_an_excerpts_own_power():
    logmel = torch.full((2, 10, 80), -60.0)
    logmel[:, 3, 7] = -20.0

    assert torch.allclose(leveled(logmel), leveled(logmel + 17.0), atol=1e-5)


# --- the net in whole numbers


def trained_net():
    recipe = json.loads((FOLDER / RECIPE).read_bytes())
    net = TimbreNet(len(recipe["programs"]), len(recipe["instruments"]), recipe["dimension"])
    net.load_state_dict(load_file(FOLDER / WEIGHTS))
    return net.eval()


def some_excerpts():
    waveforms = [tone(3.0, frequency_hz=110.0 * 1.5**step, partials=2 + step) for step in range(8)]
    waveforms += [noise(3.0, sample_rate=RATE, seed=1)[0], noise(3.0, sample_rate=RATE, seed=2)[0] ** 3]
    return np.concatenate([excerpts_of(waveform) for waveform in waveforms])


def test_its_input_is_that_of_training():
    excerpts = some_excerpts()
    with torch.inference_mode():
        trained_on = leveled(front_end()(torch.from_numpy(excerpts))).numpy()

    ours = np.stack([net_input(excerpt) for excerpt in excerpts])

    assert ours.shape == (10, 150, CONFIG.n_mels)
    assert np.abs(ours - trained_on).max() < 1e-3  # of 15 dB


@needs_weights
def test_the_net_in_whole_numbers_is_near_the_net_that_was_trained():
    net, levels = trained_net(), np.stack([net_input(excerpt) for excerpt in some_excerpts()])
    with torch.inference_mode():
        features = net.blocks(net.stem(torch.from_numpy(levels)[:, None]))
        pooled = torch.cat([features.mean(2), features.amax(2)], dim=1).flatten(1)
        exact = net.norm(net.project(pooled)).numpy()

    ours = ExactNet(net).embed(levels)

    assert np.sqrt(np.square(ours - exact).mean()) < 0.03 * exact.std()
    assert np.abs(ours - exact).max() < 0.2 * exact.std()


@needs_weights
def test_no_sum_of_the_net_is_beyond_what_its_numbers_hold_exactly():
    net = ExactNet(trained_net())
    convolutions = [net._stem, *(part for *both, _ in net._blocks for part in both)]

    for convolution in convolutions:
        magnitudes = convolution._weight.double().abs().sum(dim=(1, 2, 3))
        assert torch.equal(convolution._weight, convolution._weight.round())
        assert float(magnitudes.max()) * 2**convolution._bits <= 2**24
    assert float(net._weight_ND.abs().sum(dim=0).max()) * 2**20 <= 2**53


@needs_weights
def test_a_row_is_the_same_bits_wherever_it_lies_in_whatever_slice():
    net, levels = ExactNet(trained_net()), np.stack([net_input(excerpt) for excerpt in some_excerpts()])
    together = net.embed(levels)

    assert np.array_equal(np.concatenate([net.embed(levels[i : i + 1]) for i in range(10)]), together)
    assert np.array_equal(net.embed(levels[::-1].copy())[::-1], together)
    assert np.isfinite(net.embed(np.zeros_like(levels[:1]))).all()


# --- weights


def test_weights_that_are_missing_or_others_are_an_error_with_the_remedy(tmp_path):
    with pytest.raises(UsageError, match=r"--embedder builtin: builtin\.json is missing; restore it"):
        load(tmp_path)
    (tmp_path / RECIPE).write_text('{"sha256": "0", "programs": [], "instruments": [], "dimension": 1}')
    (tmp_path / WEIGHTS).write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"builtin\.safetensors: sha256 is .*, its recipe says 0; restore both"):
        load(tmp_path)


def test_training_goes_on_from_its_state_and_ends_as_if_never_stopped(tmp_path, monkeypatch):
    for name, value in (("SAVE_EVERY", 2), ("MEASURED", 8)):
        monkeypatch.setattr(f"tutti.pipelines.render.train_embedder.{name}", value)
    rng = np.random.default_rng(0)
    data = Excerpts(
        rng.uniform(-80, -20, (40, CONFIG.num_frames(EXCERPT_SAMPLES), 80)).astype(np.float16),
        np.repeat(np.arange(10), 4),
        ("one",),
    )
    config = TrainConfig(steps=4, batch_size=4, seed=1)
    whole, figures = train(data, config, tmp_path / "whole.pt")
    state = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert state["step"] == 4

    class Stop(Exception):
        pass

    def stop_at(step):
        def save(content, path):
            torch_save(content, path)
            if content["step"] == step:
                raise Stop

        return save

    torch_save = torch.save
    monkeypatch.setattr("tutti.pipelines.render.train_embedder.torch.save", stop_at(2))
    with pytest.raises(Stop):
        train(data, config, tmp_path / "cut.pt")
    monkeypatch.setattr("tutti.pipelines.render.train_embedder.torch.save", torch_save)
    again, _ = train(data, config, tmp_path / "cut.pt")

    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    statistics = {"center": [0.0] * 371, "scale": [2.0] * 371}
    publish(whole, config, data, figures, statistics, tmp_path / "out")
    embedder = load(tmp_path / "out")
    assert embedder.dimension == 192 + 371
    assert np.allclose(embedder.embed([tone()])[0, 192:], LogMelEmbedder().embed([tone()])[0] / 2)


def test_the_net_has_less_than_two_million_parameters():
    net = TimbreNet(len(PROGRAMS), len(INSTRUMENTS))

    assert sum(value.numel() for value in net.parameters()) < 2_000_000


# --- does it hear?


@needs_weights
def test_instruments_of_unheard_pieces_are_told_apart_by_the_nearest_neighbor():
    pytest.importorskip("fluidsynth", exc_type=ImportError)
    from tutti.datasets.scores.soundfonts import find_soundfonts
    from tutti.datasets.scores.variation import Performance
    from tutti.pipelines.render.synthesizer import synthesize

    try:
        font = find_soundfonts()[0]
    except UsageError as error:
        pytest.skip(str(error))
    programs = (0, 19, 25, 30, 40, 42, 52, 56, 65, 71, 73)  # IRMAS's eleven
    frame = ComposeConfig(min_s=6, max_s=6, max_parts=1)
    waveforms = [
        synthesize(Performance(solo(1, index, program, frame)), font, sample_rate=RATE).mix.mean(axis=0)
        for index in range(4) for program in programs
    ]  # fmt: skip
    rows = load().embed(waveforms)[:, :192]  # the net's own part
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similar = rows @ rows.T
    np.fill_diagonal(similar, -1)
    labels = np.tile(np.arange(11), 4)

    assert (labels[similar.argmax(axis=1)] == labels).mean() >= 0.8


def test_the_module_needs_no_beam_and_no_transformers():
    code = "import sys; import pipelines.embedders.builtin; print({'apache_beam', 'transformers'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "set()"


def test_configurations_travel_to_workers():
    config = EmbedConfig().with_embedder("builtin")

    assert pickle.loads(pickle.dumps(config)) == config
    assert builtin.BuiltinEmbedder.name == "builtin"
