"""The inputs that a build reads outside the cache, by its command line."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tutti.datasets.errors import UsageError
from tutti.datasets.scores.soundfonts import USUAL_PLACES, VARIABLE
from tutti.pipelines.acquisition.origins import is_http
from tutti.pipelines.build.looks import Input
from tutti.pipelines.recipe import Recipe


def named_inputs(arguments: argparse.Namespace) -> Iterator[Input]:
    """Yield the inputs that flags name; to be looked at before the recipe is made of them."""
    for kind, named in (("version", arguments.frozen), ("version", _named(arguments.parent))):
        if named is not None:
            yield Input(kind, str(Path(named).absolute()))  # type: ignore[arg-type]
    for file in (*arguments.exclude, *arguments.overrides):
        yield Input("files", str(file.absolute()))
    for folder in arguments.data_from:
        yield Input("files", str(Path(folder).expanduser().absolute()))
    if arguments.embedder is not None and Path(arguments.embedder).is_dir():
        yield Input("files", str(Path(arguments.embedder).absolute()))
    if arguments.mirror is not None and arguments.mirror != "sample":  # which is made here, and never changes
        web = is_http(arguments.mirror)
        yield Input("web" if web else "files", arguments.mirror if web else str(Path(arguments.mirror).absolute()))


def recipe_inputs(recipe: Recipe) -> Iterator[Input]:
    """Yield the inputs that a recipe names: folders of sources and weights, soundfonts, FluidSynth."""
    for config in recipe.sources.values():
        for root in filter(None, (getattr(config, "root", ""), *getattr(config, "roots", ()))):
            yield Input("files", str(Path(root).absolute()))
    if recipe.embed.folder:
        yield Input("files", str(Path(recipe.embed.folder).absolute()))
    if "rendered" in recipe.sources:
        named = os.environ.get(VARIABLE)
        places = [Path(text).expanduser() for text in named.split(os.pathsep) if text] if named else USUAL_PLACES
        for path in [*places, *_synthesizer()]:
            yield Input("files", str(path.absolute()))


def _synthesizer() -> Iterator[Path]:
    """Locate the file of the FluidSynth library, where it is installed and the system says what it has loaded."""
    from tutti.pipelines.render import synthesizer

    with contextlib.suppress(UsageError, OSError):
        synthesizer.version()
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        yield from sorted({Path(line.split(maxsplit=5)[5]) for line in lines if "/libfluidsynth" in line})


def _named(parent: str | None) -> str | None:
    return None if parent in (None, "none") else parent
