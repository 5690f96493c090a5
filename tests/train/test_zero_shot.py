"""AST scored without training: transformers' own logits on a dataset's clips, classes mapped by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_fixture import Example, mixture, write_dataset
from signals import noise
from tiny_ast import edit_json

from tutti.datasets.audio import to_int16
from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import read_manifest
from tutti.train import evaluate, run
from tutti.train.data import Data
from tutti.train.models._audioset import AUDIOSET_OUTPUTS, audioset_classes, known_instruments
from tutti.train.pretrained import transformers
from tutti.train.tasks.zero_shot import zero_shot

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
CLASSES = ("cello", "flute", "piano", "theremin", "voice")  # AudioSet lists no theremin by itself
NAMES = ["Cello", "Flute", "Piano", "Singing"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AST in the hub's layout whose outputs have AudioSet's names in another order."""
    library, target = transformers(), tmp_path_factory.mktemp("ast")
    names = [f"class {index}" for index in range(527 - len(AUDIOSET_OUTPUTS))]
    names += sorted(name for _, name in AUDIOSET_OUTPUTS.values())
    config = library.ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_length=128,
        id2label=dict(enumerate(names)), label2id={name: index for index, name in enumerate(names)},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = library.ASTForAudioClassification(config)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(target)
    library.ASTFeatureExtractor(max_length=128, mean=-5.0, std=4.0).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of .8 to 2.3 s; the model takes 1.29 s at once."""
    rng = np.random.default_rng(0)
    examples = [mixture(split, number, rng) for split in ("train", "validation", "test") for number in range(12)]
    examples = [
        Example(one.id, one.split, one.samples, {**one.presence, "theremin": 0}, one.loudness_lufs) for one in examples
    ]
    return write_dataset(tmp_path_factory.mktemp("data"), examples, CLASSES)


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    code = evaluate.main([*arguments, "--hot-copy", "off"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out or "{}"), captured.err


def test_the_probabilities_are_those_of_transformers_own_classifier_and_feature_extractor(
    folder: Path, data: Path
) -> None:
    library = transformers()
    whole = library.ASTForAudioClassification.from_pretrained(folder).eval()
    extractor = library.ASTFeatureExtractor.from_pretrained(folder)
    task = zero_shot(str(folder), CLASSES)
    split = task.load_split(Data(read_manifest(data), CPU, None), "test")

    ours = task.score_split(task.load_model(CPU), split)

    columns, taken = [whole.config.label2id[name] for name in NAMES], 400 + 127 * 160
    for clip in range(len(split)):
        first, length = int(split.starts[clip]), int(split.lengths[clip])  # type: ignore[union-attr]
        samples = split.values[first : first + length].float() / 32_768 * split.gains[clip]  # type: ignore[union-attr, index]
        pieces = [samples[start : start + taken].numpy() for start in range(0, length, taken)]
        inputs = extractor(pieces, sampling_rate=16_000, return_tensors="pt")["input_values"]
        with torch.inference_mode():
            logits = whole(inputs).logits[:, columns]
        theirs = torch.sigmoid(logits.double()).mean(dim=0).numpy()
        np.testing.assert_allclose(ours.probability[clip, [0, 1, 2, 4]], theirs, atol=2e-4)
    assert ours.probability[:, :3].std() > 0.01


def test_a_class_of_several_names_takes_the_greatest_logit(folder: Path) -> None:
    model = zero_shot(str(folder), ("guitar", "organ"), added=True).load_model(CPU)
    whole = transformers().ASTForAudioClassification.from_pretrained(folder).eval()
    names = [["Guitar", "Acoustic guitar", "Electric guitar"], ["Organ", "Electronic organ", "Hammond organ"]]
    features = torch.randn(2, 128, 128, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        logits = whole(features).logits
        expected = [logits[:, [whole.config.label2id[name] for name in group]].amax(dim=1) for group in names]
        assert torch.allclose(model.network(features), torch.stack(expected, dim=1), atol=1e-5)


def test_every_instrument_of_ours_has_names_in_audioset() -> None:
    assert len(known_instruments()) == 22
    assert audioset_classes("voice", added=False) == ("Singing",)
    assert audioset_classes("mallet_percussion", added=False) == (
        "Mallet percussion", "Marimba, xylophone", "Glockenspiel", "Vibraphone",
    )  # fmt: skip
    assert audioset_classes("theremin", added=True) == ()


def test_the_command_reports_as_of_every_run_and_names_what_audioset_lacks(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--zero-shot", str(folder), "--data", str(data), "--intervals", "--resamples", "20"]
    code, report, error = evaluated(capsys, *arguments, "--pictures", str(tmp_path / "pictures"))

    assert code == 0
    assert report["zero_shot"] == {
        "weights": str(folder),
        "classes": {"cello": ["Cello"], "flute": ["Flute"], "piano": ["Piano"], "voice": ["Singing"]},
        "unknown": ["theremin"],
        "thresholds_on": "validation",
    }
    assert (report["split"], report["num_clips"], report["num_known_labels"]) == ("test", 12, 48)
    assert 0 < report["model"]["map"] < 1
    assert report["per_class"]["theremin"]["known"] == 0
    assert report["intervals"]["micro_f1"]["low"] <= report["intervals"]["micro_f1"]["high"]
    assert {Path(path).name for path in report["pictures"]} >= {"instruments.png", "roc.png"}
    assert "unknown to AudioSet, without figures: theremin" in error


def test_the_validation_split_itself_is_scored_at_one_half(
    folder: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report, _ = evaluated(capsys, "--zero-shot", str(folder), "--data", str(data), "--split", "validation")

    assert (code, report["zero_shot"]["thresholds_on"]) == (0, None)
    assert report["per_class"]["cello"]["threshold"] == 0.5
    assert "pictures" not in report


def test_training_it_is_refused_with_the_command_that_scores_it(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "model_config.mode=zero_shot", "--set", f"model_config.weights={folder}"]

    code = run.main(["--data", str(data), "--recipe", "ast_finetune", "--output", str(tmp_path / "run"), *settings])

    assert code == 2
    assert f"score it with `python -m train.evaluate --zero-shot {folder} --data DIR`" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--zero-shot", "/no/such/folder"], "weights '/no/such/folder': neither a folder nor a name of the hub"),
        (["--run", "x", "--zero-shot", "y"], "not allowed with argument"),
        (["--run", "x", "--added-classes"], "--added-classes goes with --zero-shot"),
        ([], "one of the arguments --run --zero-shot is required"),
    ],
)
def test_what_cannot_be_scored_is_said(
    data: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([*arguments, "--data", str(data)]) == 2
    assert complaint in capsys.readouterr().err


def test_weights_that_contradict_their_preprocessor_are_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    edit_json(tmp_path / "preprocessor_config.json", max_length=1024)

    with pytest.raises(UsageError, match="max_length is 1024, but the model takes 128; take both from one model"):
        zero_shot(str(tmp_path), CLASSES).load_model(CPU)


def test_data_with_nothing_that_audioset_knows_are_refused() -> None:
    with pytest.raises(UsageError, match="AudioSet has none of the classes theremin, kazoo: there is nothing to score"):
        zero_shot("x/y", ("theremin", "kazoo"))


def test_a_longer_clip_is_the_mean_of_its_pieces(folder: Path, tmp_path: Path) -> None:
    samples = to_int16(noise(2.0, sample_rate=16_000, amplitude=0.1)[0])
    taken = 400 + 127 * 160
    parts = {"a": samples, "b": samples[:taken], "c": samples[taken:]}
    examples = [Example(f"fixture/test/{name}@0", "test", part, {"cello": 1}) for name, part in parts.items()]
    path = write_dataset(tmp_path / "data", examples, CLASSES)
    task = zero_shot(str(folder), CLASSES)

    scored = task.score_split(task.load_model(CPU), task.load_split(Data(read_manifest(path), CPU, None), "test"))

    np.testing.assert_allclose(scored.probability[0], scored.probability[1:].mean(axis=0), atol=1e-6)
