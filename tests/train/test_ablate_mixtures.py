"""Tables of the musical-mixtures paper: what runs, and our figures beside the published ones."""

import csv
import json
from pathlib import Path

import pytest
from stems import learnable_songs

from tutti.train import ablate
from tutti.train.paper_tables import MIXTURE_TABLES
from tutti.train.recipe import load_recipe, with_override
from tutti.train.run import main

FEWER = ("epochs=1", "window_s=0.4", "mixing.mixes_per_epoch=24", "mixing.num_validation=32", "mixing.num_test=32")
FAST = ["--tiny", *(word for override in FEWER for word in ("--set", override))]

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable_songs(tmp_path_factory.mktemp("songs"), num_train=4, num_others=2)


@pytest.mark.parametrize("table", MIXTURE_TABLES)
def test_every_row_suits_the_papers_recipe(table: str) -> None:
    for row in MIXTURE_TABLES[table]:
        recipe = load_recipe("mixtures_transfer")
        for override in row.overrides:
            recipe = with_override(recipe, override)
    assert len(MIXTURE_TABLES["transfer"]) == 3


def test_the_table_of_transfer_has_our_figures_of_the_test_split_beside_the_published(
    songs: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    assert main(["--data", str(songs), "--recipe", "mixtures_transfer", *FAST, "--output", str(weights)]) == 0
    output = tmp_path / "out"
    command = ["transfer", "--data", str(songs), *FAST, "--weights", str(weights), "--output", str(output)]
    assert ablate.main(command) == 0
    lines = (output / "table.md").read_text().splitlines()
    assert lines[0] == "# transfer: mixtures_transfer, 1 epochs, test split"
    assert lines[2] == "| | ROC-AUC | published | PR-AUC | published | loss | published |"
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:]]
    assert [[row[0], *row[2::2]] for row in cells] == [
        ["from scratch", "0.8488", "0.6812", "0.4459"],
        ["frozen backbone", "0.8908", "0.7623", "0.416"],
        ["fine-tuned", "0.9429", "0.8334", "0.3618"],
    ]
    for folder, row in zip(("from-scratch", "frozen-backbone", "fine-tuned"), cells, strict=True):
        metrics = json.loads((output / folder / "seed-0" / "metrics.json").read_text())["splits"]["test"]["model"]
        assert row[1::2] == [f"{metrics[name]:.3f}" for name in ("roc_auc", "map", "loss")]
    for name in ("table.png", "learning.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")
    with (output / "table.csv").open(newline="") as stream:
        assert {row["figure"] for row in csv.DictReader(stream)} >= {"roc_auc", "map", "loss"}


def test_rows_that_begin_with_weights_are_left_out_where_none_are_given(
    songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate.main(["transfer", "--data", str(songs), *FAST, "--output", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "left out: frozen backbone; it needs --set model_config.weights=..." in captured.err
    summary = json.loads(captured.out.splitlines()[-1])
    assert (summary["rows"], summary["skipped"]) == (["from scratch"], ["frozen backbone", "fine-tuned"])


def test_the_table_of_musical_shares_marks_the_papers_best(songs: Path, tmp_path: Path) -> None:
    assert ablate.main(["p_musical", "--data", str(songs), *FAST, "--output", str(tmp_path)]) == 0
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[4:]] == [
        "p_musical 0", "p_musical 0.2", "p_musical 0.4 (best there)", "p_musical 0.6", "p_musical 0.8", "p_musical 1",
    ]  # fmt: skip
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
