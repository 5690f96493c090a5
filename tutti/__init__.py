"""tutti: music corpora in, reproducible datasets and trained instrument recognizers out.

    tutti.datasets    typed rows, audio, shards, manifests, one reader per corpus
    tutti.augment     transforms
    tutti.train       training, evaluation, prediction
    tutti.pipelines   the commands that build, verify and export datasets

`pip install .` puts the four folders into this package. In a checkout they stand beside it, and the short names of
commands mean the full ones: `python -m pipelines.build` is `python -m tutti.pipelines.build`, and every module is
loaded once, under its full name. `import datasets` is the Hugging Face package, where that is installed.
"""

import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, ModuleType

ROOMS = ("augment", "datasets", "pipelines", "train")

_HERE = os.path.dirname(os.path.abspath(__file__))
IN_CHECKOUT = not os.path.isdir(os.path.join(_HERE, "datasets"))
HOME = os.path.dirname(_HERE)  # what must be on sys.path so that `tutti` is found


def as_typed(text: str) -> str:
    """Spell the commands of a text as they are typed here: `python -m tutti.pipelines.build` where it is installed."""
    return text if IN_CHECKOUT else re.sub(rf"\bpython -m (?=(?:{'|'.join(ROOMS)})\.)", "python -m tutti.", text)


class _FullName:
    """Load a short name as the module of the full name."""

    def __init__(self, full: ModuleSpec) -> None:
        self._full = full

    def create_module(self, _: ModuleSpec) -> ModuleType:
        return import_module(self._full.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._full  # the import system had put in the short one

    def get_code(self, _: str) -> CodeType | None:
        """Compile the module; `python -m` runs it as `__main__` and does not import it."""
        code: CodeType | None = self._full.loader.get_code(self._full.name)  # type: ignore[union-attr]
        return code


class _ShortNames:
    """Find `pipelines.build` as `tutti.pipelines.build`."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, _: ModuleType | None = None) -> ModuleSpec | None:
        """Answer where a short name is found; None: it is none, or the Hugging Face package has it."""
        room = name.partition(".")[0]
        if room not in ROOMS or (room == "datasets" and _is_theirs(name, path)):
            return None
        parent = import_module(f"tutti.{name}".rpartition(".")[0])
        full = PathFinder.find_spec(f"tutti.{name}", parent.__path__)
        if full is None:
            return None
        spec = ModuleSpec(name, _FullName(full), origin=full.origin)  # type: ignore[arg-type]
        spec.submodule_search_locations = full.submodule_search_locations
        return spec


def _is_theirs(name: str, path: Sequence[str] | None) -> bool:
    """Whether `datasets` or a part of it is of the Hugging Face package."""
    found, ours = PathFinder.find_spec(name, path), os.path.join(HOME, "datasets")
    return found is not None and found.origin is not None and not found.origin.startswith(ours)


def _prepare_checkout() -> None:
    """Let full names be found in the folders beside this one, and short names mean them."""
    __path__.append(HOME)
    # Last, so that an installed package named `datasets` comes first.
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != os.path.realpath(HOME)] + [HOME]
    sys.meta_path.insert(0, _ShortNames())
    for room in ROOMS:
        if sys.modules.pop(room, None) is not None:  # it is the one that is just importing us
            import_module(room)


if IN_CHECKOUT:
    _prepare_checkout()
if sys.argv[:1] == ["-m"]:  # a command is being imported, which takes seconds and may fail
    from tutti.datasets.command import guard_imports

    guard_imports()
