"""The architecture, checked: who may import whom, what nobody may use, how long a file may be."""

import ast
import graphlib
from pathlib import Path

import pytest
from conftest import ROOT

LAYERS = ("datasets", "augment", "train", "pipelines")  # each may import those before it, and itself
FILES = sorted(path.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))

MODULE_OF = {path: ".".join(("tutti", *path.with_suffix("").parts)).removesuffix(".__init__") for path in FILES}
MODULES = set(MODULE_OF.values())

FORBIDDEN = {
    "random": "is a global generator: pass a numpy or torch generator with a seed from the recipe",
    "uuid": "differs on every run: derive names from digests",
}


def imported_names(source):
    """Every name that an import statement anywhere in the source can bind, in full: "torch.nn.functional"."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return names


def violations(path, source):
    """What a file of ours imports and must not, in words."""
    layer = path.parts[0]
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    found = []
    for name in sorted(imported_names(source)):
        top, _, rest = name.partition(".")
        if top in LAYERS:
            found.append(f"{path}: imports {name} by its short name; write tutti.{name}")
        if top == "tutti" and (room := rest.split(".")[0]) in LAYERS and room not in allowed:
            found.append(f"{path}: imports {name}, but imports go one way: {' -> '.join(reversed(LAYERS))}")
        if top == "apache_beam" and layer != "pipelines":
            found.append(f"{path}: imports {name}, but Beam lives in pipelines only")
        if name.startswith("."):
            found.append(f"{path}: imports {name} relatively; write its full name")
        for forbidden, why in FORBIDDEN.items():
            if name == forbidden or name.startswith(f"{forbidden}."):
                found.append(f"{path}: imports {name}, which {why}")
    return found


def test_imports_follow_the_layers():
    assert [found for path in FILES for found in violations(path, (ROOT / path).read_text(encoding="utf-8"))] == []


def modules_imported(path):
    """Our own modules that a file imports, anywhere in it."""
    names = imported_names((ROOT / path).read_text(encoding="utf-8"))
    modules = {name if name in MODULES else name.rpartition(".")[0] for name in names}
    return modules & MODULES - {MODULE_OF[path]}


def circle(graph):
    """Nodes of which each needs the next, and the last the first; none where there is no such row."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_file_imports_itself_by_a_detour():
    assert circle({MODULE_OF[path]: modules_imported(path) for path in FILES}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


def room_of(module):
    """`build` of `tutti.pipelines.build.job`."""
    return module.split(".")[2]


def test_rooms_of_pipelines_import_downwards_but_for_two_that_call_back():
    rooms = {}
    for path in FILES:
        if MODULE_OF[path].startswith("tutti.pipelines."):
            imported = {room_of(name) for name in modules_imported(path) if name.startswith("tutti.pipelines.")}
            rooms.setdefault(room_of(MODULE_OF[path]), set()).update(imported - {room_of(MODULE_OF[path])})
    rooms["recipes"].remove("recipe")  # each is one; the listing is the folder's
    rooms["cache"].remove("acquisition")  # its command reads the ledger

    assert circle(rooms) == []


def test_no_output_depends_on_the_salted_builtin_hash():
    calls = [
        f"{path}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hash"
    ]

    assert calls == []


def test_every_layer_with_code_is_walked():
    assert {path.parts[0] for path in FILES} >= {"datasets", "pipelines", "augment", "train"}


def test_no_python_file_has_more_than_400_lines():
    folders = (*LAYERS, "tests", "benchmarks")
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    }

    assert {path: length for path, length in lengths.items() if length > 400} == {}


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("datasets/a.py", "from tutti.train.data import Loader", "imports go one way"),
        ("augment/a.py", "import tutti.pipelines.build", "imports go one way"),
        ("train/a.py", "def f():\n    import apache_beam as beam", "Beam lives in pipelines only"),
        ("train/a.py", "import datasets.record", "write tutti.datasets.record"),
        ("pipelines/a.py", "import random", "is a global generator"),
        ("pipelines/a.py", "from uuid import uuid4", "differs on every run"),
        ("pipelines/a.py", "from .b import c", "write its full name"),
    ],
)
def test_a_forbidden_import_is_found(path, source, complaint):
    (found,) = violations(Path(path), source)

    assert complaint in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "pipelines/a.py",
            "import apache_beam as beam\nfrom tutti.train.data import Loader\nfrom tutti.datasets import record",
        ),
        ("train/a.py", "from tutti.augment.gain import Gain\nfrom torch.utils.data import random_split"),
        ("datasets/a.py", "import numpy.random\nfrom tutti.datasets.record import Clip"),
    ],
)
def test_an_import_down_the_layers_is_fine(path, source):
    assert violations(Path(path), source) == []
