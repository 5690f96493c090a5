"""Train a recipe once per row of a paper's table, and write the table anew.

    python -m train.ablate augmentations --data build/irmas --recipe lumen_convnext
    python -m train.ablate focal --data build/ultimate --seeds 3 --set epochs=10

stderr: progress, and the table in the end. stdout: one JSON summary. Writes table.md, table.csv and
table.png beside the runs. A row that has been trained with the same settings is not trained again, and one
that was stopped goes on: run the same command again. Rows of other settings or data are refused (exit code 2);
--restart removes them and trains all rows anew.
Rows are compared on the validation split, as the papers compare them; the test split is in the CSV.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutti.datasets.command import Parser, run_command
from tutti.datasets.csv_cells import safe_row
from tutti.datasets.errors import UsageError
from tutti.datasets.files import write_file
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.datasets.settings import nearest
from tutti.train.cli import add_hot_copy, hot_copy_folder, processor_threads
from tutti.train.recipe import load_recipe, with_override
from tutti.train.run import Keeping, runs_of_seeds, spreads_of
from tutti.train.run_recipe import RunRecipe
from tutti.train.scoring.bootstrap import Spread
from tutti.train.tasks.listing import task_of

_COLUMNS = ("variant", "split", "figure", "mean", "deviation", "seeds")  # of table.csv


@dataclass(frozen=True)
class Row:
    """One variant of a recipe."""

    name: str
    overrides: tuple[str, ...]
    published: float | None = None  # validation F1 in the paper
    needs: str = ""  # a field that has to be set for it


def _augmented(name: str, published: float, needs: str = "") -> Row:
    return Row(name, (f"augment={name}",), published, needs)


# A1: N in total, as the published figures were run. A24: F1 of ConvNeXt-small, 10 epochs. O4, O6, O3, P9: see each.
TABLES: Mapping[str, tuple[Row, ...]] = {
    "augmentations": (
        Row("none", ("augment=",), 0.346),
        _augmented("background_noise", 0.340, needs="noises"),
        _augmented("time_stretch", 0.347),
        _augmented("time_shift", 0.352),
        _augmented("pitch_shift", 0.349),
        _augmented("colored_noise", 0.343),
        _augmented("time_inversion", 0.346),
        _augmented("time_mask", 0.351),
        _augmented("frequency_mask", 0.349),
        _augmented("random_erasing", 0.344),
        _augmented("random_pixel_erasing", 0.350),
    ),
    "sum_with_n": tuple(
        Row(f"sum with {num}", (f"augment=sum_with_n(num={num}) renormalize",)) for num in (1, 2, 3, 4, 5)
    ),
    "focal": (
        Row("bce", ("loss.kind=bce",), 0.3456),
        Row("focal, gamma 0.1", ("loss.kind=focal", "loss.gamma=0.1"), 0.3490),
        Row("focal, gamma 0.3", ("loss.kind=focal", "loss.gamma=0.3"), 0.3516),
        Row("focal, gamma 0.5", ("loss.kind=focal", "loss.gamma=0.5"), 0.3748),
    ),
    "family": tuple(Row(f"family weight {weight}", (f"loss.family_weight={weight}",)) for weight in (0, 0.3, 0.8, 1.5)),
    "sampling": tuple(Row(name, (f"sampling={name}",)) for name in ("uniform", "median", "max")),  # M1
    "pos_weight": (Row("without", ("pos_weight=off",)), Row("with", ("pos_weight=on",))),
    "pretraining": (
        Row("random", ("model_config.weights=", "optimize.head_epochs=0")),
        Row("pre-trained", (), needs="model_config.weights"),
    ),
    "data_fraction": tuple(Row(f"{share} %", (f"train_share={share / 100}",)) for share in range(10, 101, 10)),
}


@dataclass(frozen=True)
class Result:
    """Figures of a row: mean and deviation over seeds."""

    row: Row
    validation: dict[str, Spread | None]
    test: dict[str, Spread | None] | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("python -m train.ablate", __doc__)
    parser.add_argument("table", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="output root or version folder")
    parser.add_argument("--recipe", default="lumen_convnext", metavar="NAME", help="default: lumen_convnext")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: runs/ablate-TABLE-RECIPE")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="for all rows")
    parser.add_argument("--tiny", action="store_true", help="a toy of the model")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N - 1 of every row")
    parser.add_argument("--restart", action="store_true", help="train all rows anew, whatever runs left there")
    add_hot_copy(parser)
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {options.seeds}")
    recipe = load_recipe(options.recipe, options.set, tiny=options.tiny)
    manifest = read_manifest(options.data)
    output = options.output or Path("runs") / f"ablate-{options.table}-{recipe.name}"
    keeping = Keeping(output, options.restart, hot_copies=hot_copy_folder(options.hot_copy))
    check_table(output)
    with processor_threads(recipe):
        results, skipped = ablate(options.table, recipe, manifest, keeping, options.seeds)
    text = markdown(options.table, recipe, results)
    write_file(output / "table.md", text.encode())
    write_file(output / "table.csv", as_csv(results).encode())
    draw(results, task_of(recipe, ()).compared, f"{options.table}: {recipe.name}, validation", output / "table.png")
    print(f"\n{text}", file=sys.stderr)
    summary = {"table": options.table, "recipe": recipe.name, "output": str(output), "skipped": skipped}
    print(json.dumps(summary | {"rows": [result.row.name for result in results]}))
    return 0


def ablate(
    table: str, recipe: RunRecipe, manifest: Manifest, keeping: Keeping, num_seeds: int = 1
) -> tuple[list[Result], list[str]]:
    """Train every row that can be, each into a folder of the output; also the names of those that cannot.

    Raises:
        UsageError: no such table, or a row's setting does not suit the recipe.
    """
    if table not in TABLES:
        raise UsageError(f"unknown table {table!r}{nearest(table, TABLES)}; known: {', '.join(TABLES)}")
    results, skipped = [], []
    for row in TABLES[table]:
        if row.needs and not _value(recipe, row.needs):
            print(f"left out: {row.name}; it needs --set {row.needs}=...", file=sys.stderr)
            skipped.append(row.name)
            continue
        variant = recipe
        for override in row.overrides:
            variant = with_override(variant, override)
        folder = (keeping.output or Path()) / row.name.replace(" ", "-").replace(",", "")
        figures = spreads_of(runs_of_seeds(variant, manifest, num_seeds, replace(keeping, output=folder)))
        results.append(Result(row, figures["validation"], figures.get("test")))
    return results, skipped


def _value(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name, "")
    return config


def check_table(output: Path) -> None:
    """Make sure that the table's files are free, or an earlier table's.

    Raises:
        UsageError: one of them is somebody else's.
    """
    heads = {name: _head(output / name) for name in ("table.md", "table.csv", "table.png")}
    ours = (heads["table.md"] or "").startswith(tuple(f"# {name}: " for name in TABLES))
    ours = ours or (heads["table.csv"] or "").startswith(",".join(_COLUMNS))
    if not ours and (found := [name for name, head in heads.items() if head is not None]):
        raise UsageError(f"{output / found[0]}: is there, and no ablation wrote it; choose another --output")


def _head(path: Path) -> str | None:
    if not os.path.lexists(path):
        return None
    return path.read_bytes()[:100].decode(errors="replace") if path.is_file() else ""


def markdown(table: str, recipe: RunRecipe, results: Sequence[Result]) -> str:
    """Write the table for people: validation figures, and the paper's F1 where it gives one."""
    figures = task_of(recipe, ()).compared
    names = [name.replace("_", " ") for name in figures]
    lines = [f"# {table}: {recipe.name}, {recipe.epochs} epochs, validation split", ""]
    lines += ["| | " + " | ".join(names) + " | published F1 |", "|---" * (len(names) + 2) + "|"]
    for result in results:
        cells = ["-" if (spread := result.validation[name]) is None else str(spread) for name in figures]
        published = "" if result.row.published is None else f"{result.row.published:g}"
        lines.append(f"| {result.row.name} | {' | '.join(cells)} | {published} |")
    return "\n".join(lines) + "\n"


def draw(results: Sequence[Result], figures: Sequence[str], title: str, path: Path) -> None:
    """Draw the table's validation figures as bars."""
    from tutti.train.scoring.pictures import ablation_bars, save  # matplotlib takes a second to load

    rows = {
        result.row.name: {
            name: None if (spread := result.validation[name]) is None else (spread.mean, spread.deviation or 0.0)
            for name in figures
        }
        for result in results
    }
    save(ablation_bars(rows, title), path)


def as_csv(results: Sequence[Result]) -> str:
    """Format one row per variant, split and figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for result in results:
        for split, figures in (("validation", result.validation), ("test", result.test or {})):
            for name, spread in figures.items():
                if spread is not None:
                    deviation = "" if spread.deviation is None else round(spread.deviation, 6)
                    facts = (split, name, round(spread.mean, 6), deviation, spread.count)
                    writer.writerow(safe_row([result.row.name, *facts]))
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main())
