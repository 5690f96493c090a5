"""Train a recipe once per row of a paper's table, and write the table anew.

    python -m train.ablate augmentations --data build/irmas --recipe lumen_convnext
    python -m train.ablate focal --data build/ultimate --seeds 3 --set epochs=10
    python -m train.ablate transfer --data build/multitrack --weights RUN --seeds 3
    python -m train.ablate p_musical --data build/multitrack --weights RUN --set transfer=fine_tuned --seeds 4

stderr: progress, and the table in the end. stdout: one JSON summary. Writes table.md, table.csv and
table.png beside the runs. A row that has been trained with the same settings is not trained again, and one
that was stopped goes on: run the same command again. Rows of other settings or data are refused (exit code 2);
--restart removes them and trains all rows anew.
Rows are compared on the validation split, as the papers compare them; the test split is in the CSV. Those of the last
two tables, the musical-mixtures paper's, are compared on the test split, as there, and learning.png has the curves of
every epoch.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutti.datasets.command import Parser, run_command
from tutti.datasets.csv_cells import safe_row
from tutti.datasets.errors import UsageError
from tutti.datasets.files import write_file
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.datasets.settings import nearest
from tutti.train.cli import add_hot_copy, hot_copy_folder, processor_threads, with_weights
from tutti.train.paper_tables import BEST_P_MUSICAL, MIXTURE_TABLES, TABLES, Row, p_musical_of
from tutti.train.recipe import load_recipe, with_override
from tutti.train.run import Keeping, runs_of_seeds, spreads_of
from tutti.train.run_recipe import RunRecipe
from tutti.train.runs.saved import METRICS
from tutti.train.scoring.bootstrap import Spread
from tutti.train.tasks.areas import AREAS
from tutti.train.tasks.listing import task_of

_TABLES = {**TABLES, **MIXTURE_TABLES}
_COLUMNS = ("variant", "split", "figure", "mean", "deviation", "seeds")  # of table.csv


@dataclass(frozen=True)
class Result:
    """Figures of a row: mean and deviation over seeds."""

    row: Row
    validation: dict[str, Spread | None]
    test: dict[str, Spread | None] | None
    folders: tuple[Path, ...] = ()  # of the runs, a seed each

    @property
    def shown(self) -> tuple[str, dict[str, Spread | None]]:
        """The split that a table of mixtures compares, and its figures: the test split where there is one."""
        return ("validation", self.validation) if self.test is None else ("test", self.test)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("python -m train.ablate", __doc__)
    parser.add_argument("table", metavar="TABLE", help=", ".join(_TABLES))
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="output root or version folder")
    parser.add_argument(
        "--recipe", metavar="NAME", help=f"default: lumen_convnext; of {', '.join(MIXTURE_TABLES)}: mixtures_transfer"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: runs/ablate-TABLE-RECIPE")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="for all rows")
    parser.add_argument("--weights", metavar="RUN", help="begin with the backbone of a finished run")
    parser.add_argument("--tiny", action="store_true", help="a toy of the model")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N - 1 of every row")
    parser.add_argument("--restart", action="store_true", help="train all rows anew, whatever runs left there")
    add_hot_copy(parser)
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {options.seeds}")
    name = options.recipe or ("mixtures_transfer" if options.table in MIXTURE_TABLES else "lumen_convnext")
    recipe = with_weights(load_recipe(name, options.set, tiny=options.tiny), options.weights)
    manifest = read_manifest(options.data)
    output = options.output or Path("runs") / f"ablate-{options.table}-{recipe.name}"
    keeping = Keeping(output, options.restart, hot_copies=hot_copy_folder(options.hot_copy))
    check_table(output)
    with processor_threads(recipe):
        results, skipped = ablate(options.table, recipe, manifest, keeping, options.seeds)
    text = markdown(options.table, recipe, results)
    write_file(output / "table.md", text.encode())
    write_file(output / "table.csv", as_csv(results).encode())
    draw(options.table, results, recipe, output)
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
    if table not in _TABLES:
        raise UsageError(f"unknown table {table!r}{nearest(table, _TABLES)}; known: {', '.join(_TABLES)}")
    results, skipped = [], []
    for row in _TABLES[table]:
        if row.needs and not _value(recipe, row.needs):
            print(f"left out: {row.name}; it needs --set {row.needs}=...", file=sys.stderr)
            skipped.append(row.name)
            continue
        variant = recipe
        for override in row.overrides:
            variant = with_override(variant, override)
        folder = (keeping.output or Path()) / row.name.replace(" ", "-").replace(",", "")
        runs = runs_of_seeds(variant, manifest, num_seeds, replace(keeping, output=folder))
        figures = spreads_of(runs)
        folders = tuple(Path(run["output"]) for run in runs)
        results.append(Result(row, figures["validation"], figures.get("test"), folders))
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
    heads = {name: _head(output / name) for name in ("table.md", "table.csv", "table.png", "learning.png")}
    ours = (heads["table.md"] or "").startswith(tuple(f"# {name}: " for name in _TABLES))
    ours = ours or (heads["table.csv"] or "").startswith(",".join(_COLUMNS))
    if not ours and (found := [name for name, head in heads.items() if head is not None]):
        raise UsageError(f"{output / found[0]}: is there, and no ablation wrote it; choose another --output")


def _head(path: Path) -> str | None:
    if not os.path.lexists(path):
        return None
    return path.read_bytes()[:100].decode(errors="replace") if path.is_file() else ""


def markdown(table: str, recipe: RunRecipe, results: Sequence[Result]) -> str:
    """Write the table for people: validation figures, and the paper's F1 where it gives one."""
    if table in MIXTURE_TABLES:
        return _mixtures_markdown(table, recipe, results)
    figures = task_of(recipe, ()).compared
    names = [name.replace("_", " ") for name in figures]
    lines = [f"# {table}: {recipe.name}, {recipe.epochs} epochs, validation split", ""]
    lines += ["| | " + " | ".join(names) + " | published F1 |", "|---" * (len(names) + 2) + "|"]
    for result in results:
        cells = [_cell(result.validation[name]) for name in figures]
        published = "" if result.row.published is None else f"{result.row.published:g}"
        lines.append(f"| {result.row.name} | {' | '.join(cells)} | {published} |")
    return "\n".join(lines) + "\n"


def _mixtures_markdown(table: str, recipe: RunRecipe, results: Sequence[Result]) -> str:
    """Write areas and loss of the test split, each beside the published one."""
    split = results[0].shown[0] if results else "test"
    lines = [f"# {table}: {recipe.name}, {recipe.epochs} epochs, {split} split", ""]
    lines += ["| |" + "".join(f" {words} | published |" for words in AREAS.values()), "|---" * 7 + "|"]
    for result in results:
        cells = [f" {_cell(result.shown[1][name])} | {result.row.figures.get(name, '')} |" for name in AREAS]
        best = " (best there)" if p_musical_of(result.row) == BEST_P_MUSICAL else ""
        lines.append(f"| {result.row.name}{best} |{''.join(cells)}")
    return "\n".join(lines) + "\n"


def _cell(spread: Spread | None) -> str:
    return "-" if spread is None else str(spread)


def draw(table: str, results: Sequence[Result], recipe: RunRecipe, folder: Path) -> None:
    """Draw the table's figures: as bars; those of mixtures beside what was published, and over the epochs."""
    # matplotlib takes a second to load
    from tutti.train.scoring.pictures import ablation_bars, save
    from tutti.train.scoring.transfer_pictures import areas_over_share, beside_published, learning_curves

    title = f"{table}: {recipe.name}, {results[0].shown[0] if results and table in MIXTURE_TABLES else 'validation'}"
    if table not in MIXTURE_TABLES:
        names = task_of(recipe, ()).compared
        rows = {one.row.name: {name: _bar(one.validation[name]) for name in names} for one in results}
        save(ablation_bars(rows, title), folder / "table.png")
        return
    found = {one.row.name: {name: _bar(one.shown[1][name]) for name in AREAS} for one in results}
    if table == "p_musical":
        shares = [p_musical_of(one.row) or 0.0 for one in results]
        save(areas_over_share(shares, list(found.values()), AREAS, BEST_P_MUSICAL, title), folder / "table.png")
    else:
        published = {one.row.name: one.row.figures for one in results}
        save(beside_published(found, published, AREAS, title), folder / "table.png")
    histories = {one.row.name: [_history(run) for run in one.folders] for one in results}
    save(learning_curves(histories, f"{table}: {recipe.name}, validation"), folder / "learning.png")


def _bar(spread: Spread | None) -> tuple[float, float] | None:
    return None if spread is None else (spread.mean, spread.deviation or 0.0)


def _history(folder: Path) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = json.loads((folder / METRICS).read_bytes())["history"]
    return history


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
