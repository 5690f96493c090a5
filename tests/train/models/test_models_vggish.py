import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.train.models.bilstm_attention import BiLstm, Config
from tutti.train.reading.vggish import dequantize, read_openmic

KEYS = ("000046_3840", "000083_0", "001200_10000")
ANSWERS = {KEYS[0]: {"piano": 0.9, "banjo": 0.25}, KEYS[1]: {"voice": 0.5}, KEYS[2]: {"drums": 0.125}}
COLUMN = {"banjo": 1, "drums": 6, "piano": 12, "voice": 19}  # of class-map.json


def embeddings() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, 10, 128))


def write(folder: Path, order: tuple[int, ...] = (0, 1, 2), **changes: object) -> tuple[Path, Path]:
    """OpenMIC's two files with three clips; the CSV in another order than the arrays."""
    truth, mask = np.full((3, 20), 0.5), np.zeros((3, 20), bool)
    for row, index in enumerate(order):
        for name, relevance in ANSWERS[KEYS[index]].items():
            truth[row, COLUMN[name]], mask[row, COLUMN[name]] = relevance, True
    arrays: dict[str, object] = {"X": embeddings(), "Y_true": truth, "Y_mask": mask, **changes}
    arrays["sample_key"] = np.array([KEYS[index] for index in order], object)  # a pickle inside the file
    np.savez(folder / "openmic-2018.npz", **arrays)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_key", "instrument", "relevance", "num_responses"])
        for key in reversed(KEYS):
            writer.writerows([key, name, relevance, 3] for name, relevance in ANSWERS[key].items())
    return folder / "openmic-2018.npz", folder / "labels.csv"


def test_embeddings_are_found_by_key_without_unpickling_the_keys(tmp_path: Path) -> None:
    clips = read_openmic(*write(tmp_path))
    assert clips.keys == KEYS
    assert clips.quantized.dtype == np.uint8
    features = clips.features([KEYS[2], KEYS[0]])
    assert features.shape == (2, 10, 128)
    assert features.dtype == np.float32
    assert np.array_equal(features, dequantize(embeddings()[[2, 0]].astype(np.uint8)))


def test_eight_bits_span_minus_two_to_two() -> None:
    assert dequantize(np.array([0, 51, 255], np.uint8)).tolist() == pytest.approx([-2.0, -1.2, 2.0])


def test_rows_in_another_order_than_the_labels_prove_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        IntegrityError, match=r"its labels differ from labels.csv's, first for 000083_0: .*another order"
    ):
        read_openmic(*write(tmp_path, order=(0, 2, 1)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"X": np.zeros((3, 10, 64), int)},
            r"X is int64 \(3, 10, 64\), expected whole numbers of shape \(3, 10, 128\)",
        ),
        ({"X": np.zeros((2, 10, 128), int)}, r"X is int64 \(2, 10, 128\)"),
        ({"X": np.zeros((3, 10, 128))}, "X is float64"),
        ({"X": np.full((3, 10, 128), 256)}, r"X lies in \[256, 256\], expected 8 bits"),
        ({"X": np.full((3, 10, 128), None)}, "not OpenMIC's arrays"),
        ({"Y_true": np.zeros((3, 19))}, r"labels of shape \(3, 19\)"),
    ],
)
def test_arrays_that_are_not_openmics_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        read_openmic(*write(tmp_path, **changes))


def test_a_cut_file_and_a_missing_one_are_told_apart(tmp_path: Path) -> None:
    npz, labels = write(tmp_path)
    npz.write_bytes(npz.read_bytes()[:-40])
    with pytest.raises(IntegrityError, match=r"not OpenMIC's arrays.*unpack openmic-2018-v1.0.0.tgz again"):
        read_openmic(npz, labels)
    npz.unlink()
    with pytest.raises(UsageError, match=r"not there; unpack openmic-2018-v1.0.0.tgz"):
        read_openmic(npz, labels)


def test_an_array_that_is_larger_than_its_clips_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    npz, labels = write(tmp_path)
    arrays = dict(np.load(npz, allow_pickle=True))
    np.savez_compressed(npz, **{**arrays, "X": np.zeros((1_000, 10, 128), int)})  # 10 MB of zeros in a few kB
    with pytest.raises(IntegrityError, match=r"X\.npy has 10,240,128 bytes, at most 1,079,296 are of these clips"):
        read_openmic(npz, labels)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"sample_key,instrument,relevance\na,piano,much\n", b"sample_key,instrument,relevance\na,piano\n"],
)
def test_labels_that_are_no_table_are_an_error_that_names_the_line(tmp_path: Path, content: bytes) -> None:
    npz, labels = write(tmp_path)
    labels.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"labels\.csv, line \d+: not an aggregated label"):
        read_openmic(npz, labels)


def test_a_clip_that_openmic_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"000083_1: no clip of OpenMIC-2018 \(did you mean '000083_0'\?\)"):
        read_openmic(*write(tmp_path)).features(["000083_1"])


def test_the_arrays_of_the_mirror_are_read(shared: Path, tmp_path: Path) -> None:
    names = ("openmic-2018.npz", "openmic-2018-aggregated-labels.csv")
    with tarfile.open(shared / "mirror/zenodo.org/records/1432913/files/openmic-2018-v1.0.0.tgz") as tar:
        for name in names:
            (tmp_path / name).write_bytes(tar.extractfile(f"openmic-2018/{name}").read())  # type: ignore[union-attr]
    clips = read_openmic(tmp_path / names[0], tmp_path / names[1])
    assert clips.quantized.shape == (len(clips.keys), 10, 128)
    assert len(clips.keys) > 10
    assert -2 <= clips.features(clips.keys).mean() <= 2


def lstm(**changes: float) -> tuple[BiLstm, torch.Tensor]:
    torch.manual_seed(0)
    series = torch.randn(4, 10, 128, generator=torch.Generator().manual_seed(1))
    return BiLstm(Config(**{"dropout": 0.0, "recurrent_dropout": 0.0, **changes}), 128), series  # type: ignore[arg-type]


def test_step_by_step_gives_the_numbers_of_torchs_lstm() -> None:
    network, series = lstm()
    both = torch.cat([network.stepwise(series, ""), network.stepwise(series.flip(1), "_reverse").flip(1)], dim=2)
    assert torch.allclose(both, network(series), atol=1e-6)


def test_recurrent_dropout_changes_what_later_steps_know_and_not_the_first() -> None:
    network, series = lstm(recurrent_dropout=0.5)
    dropped = network.train()(series)[..., :64]
    plain = network.eval()(series)[..., :64]
    assert torch.allclose(dropped[:, 0], plain[:, 0], atol=1e-6)  # the state before the first step is zero
    assert (dropped[:, 1:] - plain[:, 1:]).abs().mean() > 0.01
    assert torch.equal(network(series), network(series))


def test_input_dropout_hides_the_same_features_in_every_step() -> None:
    network, _ = lstm(dropout=0.5, recurrent_dropout=0.0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        network.lstm.weight_ih_l0[128:192, :64] = torch.eye(64)  # the cell's input is feature 0 to 63
        network.lstm.bias_ih_l0[:64] = 20.0  # entry open
        network.lstm.bias_ih_l0[64:128] = -20.0  # nothing kept
        network.lstm.bias_ih_l0[192:] = 20.0  # exit open
    heard = network.train()(torch.ones(1, 10, 128))[0, :, :64] > 0.5
    assert torch.equal(heard, heard[:1].expand(10, -1))
    assert 16 < heard[0].sum() < 48
