"""A paper's table, trained anew: what runs, what is written, what is left out."""

import csv
import json
from pathlib import Path

import pytest
from dataset_fixture import learnable_dataset

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import read_manifest
from tutti.train import ablate
from tutti.train.fitting.augmentation import make_augmentation
from tutti.train.recipe import load_recipe, with_override
from tutti.train.run import Keeping

TINY = ["--set", "epochs=1", "--set", "window_s=0.8", "--set", "features.n_mels=32", "--set", "model_config.width=4"]


pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable_dataset(tmp_path_factory.mktemp("data"), num_train=16, num_others=8)


@pytest.mark.parametrize("table", ablate.TABLES)
def test_every_row_of_every_table_suits_the_papers_recipe(table: str) -> None:
    for row in ablate.TABLES[table]:
        recipe = load_recipe("lumen_convnext")
        for override in row.overrides:
            recipe = with_override(recipe, override)
        if row.needs != "noises":
            make_augmentation(recipe.augment)


def test_a_table_is_written_as_markdown_and_csv_with_a_row_per_variant(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = ["focal", "--data", str(data), "--recipe", "logmel_cnn", "--seeds", "2", "--output", str(output), *TINY]
    assert ablate.main(command) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["rows"] == [
        "bce", "focal, gamma 0.1", "focal, gamma 0.3", "focal, gamma 0.5",
    ]  # fmt: skip
    lines = (output / "table.md").read_text().splitlines()
    assert lines[0] == "# focal: logmel_cnn, 1 epochs, validation split"
    assert [line.split("|")[1].strip() for line in lines[4:]] == [
        "bce", "focal, gamma 0.1", "focal, gamma 0.3", "focal, gamma 0.5",
    ]  # fmt: skip
    assert [line.split("|")[-2].strip() for line in lines[4:]] == ["0.3456", "0.349", "0.3516", "0.3748"]
    assert (output / "table.png").read_bytes().startswith(b"\x89PNG")
    with (output / "table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * 2 * 6  # variants, splits, figures
    metrics = [json.loads((output / "bce" / f"seed-{seed}" / "metrics.json").read_text()) for seed in (0, 1)]
    mean = sum(one["splits"]["validation"]["model"]["map"] for one in metrics) / 2
    (found,) = [row for row in rows if (row["variant"], row["split"], row["figure"]) == ("bce", "validation", "map")]
    assert float(found["mean"]) == pytest.approx(mean, abs=1e-6)
    assert found["seeds"] == "2"

    # Again: nothing is trained, the same table.
    before = (output / "table.csv").read_bytes(), (output / "bce" / "seed-0" / "checkpoint.safetensors").stat().st_mtime
    assert ablate.main(command) == 0
    assert "epoch" not in capsys.readouterr().err.split("# focal")[0]
    after = (output / "table.csv").read_bytes(), (output / "bce" / "seed-0" / "checkpoint.safetensors").stat().st_mtime
    assert before == after


def test_a_row_that_needs_what_is_not_set_is_left_out_and_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe("ast_finetune", ["epochs=1"], tiny=True)
    results, skipped = ablate.ablate("pretraining", recipe, read_manifest(data), Keeping(tmp_path))
    assert [result.row.name for result in results] == ["random"]
    assert skipped == ["pre-trained"]
    assert "left out: pre-trained; it needs --set model_config.weights=..." in capsys.readouterr().err


def test_an_unknown_table_is_refused_with_the_nearest_one(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown table 'focall' \(did you mean 'focal'\?\)"):
        ablate.ablate("focall", load_recipe("logmel_cnn"), read_manifest(data), Keeping(tmp_path))


@pytest.mark.parametrize("name", ["table.md", "table.csv", "table.png"])
def test_a_table_of_somebody_elses_is_not_replaced(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / name).write_text("my own table")
    assert ablate.main(["focal", "--data", str(data), "--recipe", "logmel_cnn", "--output", str(output), *TINY]) == 2
    assert f"{name}: is there, and no ablation wrote it; choose another --output" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == [name]
    assert (output / name).read_text() == "my own table"


def test_rows_of_other_settings_are_refused_unless_they_are_to_be_trained_anew(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["pos_weight", "--data", str(data), "--recipe", "logmel_cnn", "--output", str(tmp_path), *TINY]
    assert ablate.main(command) == 0
    before = (tmp_path / "with" / "seed-0" / "model.safetensors").read_bytes()
    other = [*command, "--set", "learning_rate=0.5"]

    assert ablate.main(other) == 2
    assert "holds a run with other recipe.optimize.learning_rate" in capsys.readouterr().err
    assert (tmp_path / "with" / "seed-0" / "model.safetensors").read_bytes() == before

    assert ablate.main([*other, "--restart"]) == 0
    assert (tmp_path / "with" / "seed-0" / "model.safetensors").read_bytes() != before
