"""The AST embedder on a real, tiny AST: from disk and from a hub, bit for bit the same in every batch and process."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from signals import noise, sine
from tiny_ast import edit_json, edit_weights, weight_names, write_tiny_ast

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.pipelines.embedders.ast import SLICE_CLIPS, load
from tutti.train.features import torchaudio_import
from tutti.train.models._positions import resize_positions

RATE = 16_000
NO_WEIGHTS_NEEDED = "or pass --embedder logmel, which needs no weights"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model; read it, do not write to it."""
    return write_tiny_ast(tmp_path_factory.mktemp("ast"))


@pytest.fixture
def own(folder, tmp_path):
    """A copy of the model to damage."""
    return Path(shutil.copytree(folder, tmp_path / "ast"))


@pytest.fixture(scope="module")
def embedder(folder):
    return load(str(folder), device="cpu")


def clips(count=8):
    """Noise and tones of 0.3 to 2 s; the tiny model hears 1.28 s."""
    durations = (1.0, 0.3, 2.0, 0.5, 1.28, 1.0, 0.7, 1.5)
    return [
        noise(durations[i % 8], sample_rate=RATE, seed=i)[0] + sine(durations[i % 8], frequency_hz=200.0 * (i + 1),
        sample_rate=RATE)[0] for i in range(count)
    ]  # fmt: skip


# --- the embedding


def test_the_embedding_is_the_pooled_output_of_the_reference_model_on_the_reference_features(folder, embedder):
    from transformers import ASTFeatureExtractor, ASTModel

    model, extractor = ASTModel.from_pretrained(folder), ASTFeatureExtractor.from_pretrained(folder)
    with torch.inference_mode():
        inputs = extractor(clips(), sampling_rate=RATE, return_tensors="pt")["input_values"]
        theirs = model.eval()(inputs).pooler_output.numpy()

    ours = embedder.embed(clips())

    assert (ours.shape, ours.dtype, embedder.dimension, embedder.name) == ((8, 64), np.float32, 64, "ast")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    assert np.abs(theirs - theirs.mean(axis=0)).max() > 0.1  # clips do differ by far more


@pytest.mark.parametrize("short_clips_resize", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_embeddings_are_the_same_bits_in_every_batch(folder, batch, short_clips_resize):
    embedder = load(str(folder), device="cpu", resize_positions=short_clips_resize)
    together = embedder.embed(clips(16))

    apart = [embedder.embed(clips(16)[start : start + batch]) for start in range(0, 16, batch)]

    assert np.array_equal(np.concatenate(apart), together)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_slices_filled_up_with_silence_give_the_same_bits_in_every_batch(embedder, batch, monkeypatch):
    """As on a GPU, where a slice holds many clips."""
    monkeypatch.setitem(SLICE_CLIPS, "cpu", 4)
    together = embedder.embed(clips())

    apart = [embedder.embed(clips()[start : start + batch]) for start in range(0, 8, batch)]

    assert np.array_equal(np.concatenate(apart), together)


@pytest.mark.parametrize("short_clips_resize", [False, True])
def test_rows_follow_the_order_of_the_clips(folder, short_clips_resize):
    embedder = load(str(folder), device="cpu", resize_positions=short_clips_resize)

    assert np.array_equal(embedder.embed(clips()[::-1]), embedder.embed(clips())[::-1])


def test_no_clips_have_no_embeddings(embedder):
    assert embedder.embed([]).shape == (0, 64)


def test_of_a_long_clip_only_the_beginning_is_heard(embedder):
    long = noise(4.0, sample_rate=RATE)[0]

    assert np.array_equal(embedder.embed([long]), embedder.embed([long[: 400 + 127 * 160]]))


def test_dropout_is_off(own, tmp_path, embedder):
    with_dropout = write_tiny_ast(tmp_path / "dropout", dropout=0.5)

    assert np.array_equal(load(str(with_dropout)).embed(clips()), embedder.embed(clips()))


def test_a_model_without_the_classifier_gives_the_same_embeddings(tmp_path, folder, embedder):
    bare = write_tiny_ast(tmp_path / "bare", classifier=False)

    # The first is the layout of the published checkpoint, renamed while loading.
    assert "audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight" in weight_names(folder)
    assert "encoder.layer.0.attention.attention.query.weight" in weight_names(bare)
    assert np.array_equal(load(str(bare)).embed(clips()), embedder.embed(clips()))


def test_an_input_that_is_no_waveform_is_named_by_its_place_in_the_whole_list(embedder):
    with pytest.raises(ValueError, match="waveform 8: 100 samples are less than a frame"):
        embedder.embed([*clips(), np.zeros(100, np.float32)])


def test_bfloat16_is_near_float32_and_recorded(folder, embedder):
    half = load(str(folder), device="cpu", precision="bfloat16")

    ours, exact = half.embed(clips()), embedder.embed(clips())

    cosines = (ours * exact).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(exact, axis=1)
    assert ours.dtype == np.float32
    assert not np.array_equal(ours, exact)
    assert cosines.min() > 0.99
    assert (half.facts["settings"]["precision"], embedder.facts["settings"]["precision"]) == ("bfloat16", "float32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_embeddings_are_the_same_bits_in_every_batch_and_near_those_of_the_cpu(folder, embedder, precision):
    on_gpu = load(str(folder), device="cuda", precision=precision)
    together = on_gpu.embed(clips(40))

    apart = [np.concatenate([on_gpu.embed(clips(40)[i : i + n]) for i in range(0, 40, n)]) for n in (1, 3, 8)]

    assert all(np.array_equal(rows, together) for rows in apart)
    tolerance = 1e-3 if precision == "float32" else 0.1
    np.testing.assert_allclose(together, embedder.embed(clips(40)), rtol=0, atol=tolerance)


# --- short clips


def test_a_resized_grid_interpolates_over_time_within_each_band():
    special, bands = [[100.0], [200.0]], [[[0.0], [1.0], [2.0], [3.0]], [[10.0], [11.0], [12.0], [13.0]]]
    whole = torch.tensor([[*special, *bands[0], *bands[1]]])

    halved = resize_positions(whole, bands=2, patches=2)

    assert halved.flatten().tolist() == [100.0, 200.0, 0.5, 2.5, 10.5, 12.5]


def test_a_grid_of_the_same_length_stays_as_it_is():
    whole = torch.randn(1, 2 + 12 * 101, 8, generator=torch.Generator().manual_seed(0))

    assert torch.equal(resize_positions(whole, bands=12, patches=101), whole)


def test_a_short_clip_through_a_resized_grid_is_what_a_model_of_that_length_says(own):
    """98 frames hold 9 patches of 16 frames every 10, which end with frame 96."""
    waveform = noise(1.0, sample_rate=RATE)[0]
    resized = load(str(own), resize_positions=True).embed([waveform])

    key = "audio_spectrogram_transformer.embeddings.position_embeddings"
    edit_weights(own, lambda weights: weights.update({key: resize_positions(weights[key], bands=12, patches=9)}))
    edit_json(own / "config.json", max_length=96)
    edit_json(own / "preprocessor_config.json", max_length=96)

    assert np.array_equal(load(str(own)).embed([waveform]), resized)


def test_only_short_clips_go_through_a_resized_grid(folder, embedder):
    resizing = load(str(folder), resize_positions=True)
    short, whole = noise(1.0, sample_rate=RATE)[0], noise(1.5, sample_rate=RATE)[0]

    assert not np.array_equal(resizing.embed([short]), embedder.embed([short]))
    assert np.array_equal(resizing.embed([whole]), embedder.embed([whole]))


# --- the digest


def test_the_digest_is_of_the_contents_not_the_folder(own, embedder):
    assert load(str(own)).digest == embedder.digest
    assert len(embedder.digest) == 64
    assert str(own) not in json.dumps(load(str(own)).facts)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edit_weights(
            folder, lambda weights: weights["audio_spectrogram_transformer.layernorm.bias"][0].add_(1e-3)
        ),
        lambda folder: edit_json(folder / "config.json", layer_norm_eps=1e-6),
        lambda folder: edit_json(folder / "preprocessor_config.json", mean=-6.845978),
    ],
    ids=["a weight", "the configuration", "the normalization"],
)
def test_what_changes_the_embeddings_changes_the_digest(own, embedder, change):
    change(own)
    changed = load(str(own))

    assert not np.array_equal(changed.embed(clips()), embedder.embed(clips()))
    assert changed.digest != embedder.digest


def test_every_setting_has_a_digest_of_its_own(folder):
    choices = [(resize, precision) for resize in (False, True) for precision in ("float32", "bfloat16")]

    digests = {load(str(folder), resize_positions=resize, precision=precision).digest for resize, precision in choices}

    assert len(digests) == 4


def test_without_preprocessor_config_the_normalization_is_that_of_audioset(own, embedder):
    (own / "preprocessor_config.json").unlink()

    assert load(str(own)).digest == embedder.digest


def test_another_process_with_another_hash_seed_and_one_thread_makes_the_same_digest_and_bits(
    folder, embedder, tmp_path
):
    inputs = [clip[:4_800] for clip in clips()]
    np.save(tmp_path / "clips.npy", np.stack(inputs))
    code = (
        "import hashlib, sys, numpy as np; from tutti.pipelines.embedders.ast import load; e = load(sys.argv[1]); "
        "print(e.digest, hashlib.sha256(e.embed(list(np.load(sys.argv[2]))).tobytes()).hexdigest())"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"

    process = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "clips.npy")],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )

    bits = hashlib.sha256(embedder.embed(inputs).tobytes()).hexdigest()
    assert (process.stdout, process.stderr) == (f"{embedder.digest} {bits}\n", "")


# --- what is refused


def test_a_folder_with_pickled_weights_only_is_refused_and_they_are_never_opened(own, tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    (own / "model.safetensors").unlink()
    (own / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))

    with pytest.raises(UsageError, match=r"pytorch_model\.bin: weights in this format can run code .* `hf download "):
        load(str(own))

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named_with_the_ways_to_get_it(own, name):
    (own / name).unlink()

    with pytest.raises(UsageError) as error:
        load(str(own))

    assert str(error.value) == (
        f"{own}: lacks {name}; fetch the weights where there is a network with `hf download "
        "MIT/ast-finetuned-audioset-10-10-0.4593 config.json preprocessor_config.json model.safetensors "
        f"--local-dir DIR` and pass --embedder DIR, {NO_WEIGHTS_NEEDED}"
    )


@pytest.mark.parametrize("model", ["/no/such/folder", "nothing", "a/b/c", "a/b@", "../x"])
def test_what_is_neither_a_folder_nor_a_name_of_the_hub_is_refused(model):
    with pytest.raises(UsageError, match="neither a folder nor a name of the hub; fetch the weights"):
        load(model)


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: b"\xff" * 8 + content[8:]],
    ids=["cut short", "empty", "no header"],
)
def test_damaged_weights_are_named(own, damage):
    path = own / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(IntegrityError, match=r"model\.safetensors is damaged .*; fetch it again"):
        load(str(own))


def test_missing_weights_are_not_replaced_by_random_ones(own):
    edit_weights(own, lambda weights: weights.pop("audio_spectrogram_transformer.layernorm.bias"))

    with pytest.raises(IntegrityError, match=r"not those of a ASTModel: 1 weights are missing .* layernorm\.bias"):
        load(str(own))


def test_weights_of_another_shape_are_refused(own):
    edit_json(own / "config.json", intermediate_size=256)

    with pytest.raises(IntegrityError, match=r"config\.json and model\.safetensors"):
        load(str(own))


def test_weights_that_are_not_finite_are_found_when_they_are_used(own):
    key = "audio_spectrogram_transformer.layernorm.weight"
    edit_weights(own, lambda weights: weights[key].fill_(torch.nan))

    with pytest.raises(IntegrityError, match="its embeddings are not finite: the weights are damaged"):
        load(str(own)).embed(clips(1))


@pytest.mark.parametrize(
    ("file", "values", "complaint"),
    [
        ("config.json", {"model_type": "vit"}, "model_type is 'vit', expected 'audio-spectrogram-transformer'"),
        ("preprocessor_config.json", {"sampling_rate": 44_100}, "sampling_rate is 44100, but the model hears 16000"),
        ("preprocessor_config.json", {"max_length": 1024}, "max_length is 1024, but the model hears 128"),
    ],
)
def test_a_model_that_is_no_ast_of_ours_is_refused(own, file, values, complaint):
    edit_json(own / file, **values)

    with pytest.raises(UsageError, match=f"{file}: {complaint}"):
        load(str(own))


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_configuration_that_is_no_json_object_is_named(own, content):
    (own / "config.json").write_bytes(content)

    with pytest.raises(IntegrityError, match=r"config\.json: .*fetch it again"):
        load(str(own))


def test_an_unknown_device_is_refused(folder):
    with pytest.raises(UsageError, match="device 'tpu': expected auto, cpu, cuda"):
        load(str(folder), device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_said(folder):
    with pytest.raises(UsageError, match="device 'cuda': torch sees no GPU; use auto or cpu"):
        load(str(folder), device="cuda")


def test_what_needs_the_compiled_part_of_torchaudio_says_so():
    @torchaudio_import._without_compiled_part().fail_if_no_align
    def forced_align():
        return "aligned"

    with pytest.raises(RuntimeError, match="torchaudio: forced_align needs the compiled part"):
        forced_align()
