"""Docstrings begin with the thing itself: of a function a verb and its object, of all else no question.

A function is described by what it does ("Compute", "Read", "Return the ..."), in the imperative; one that answers
yes or no by "Whether ..."; a property, a class and a module by what it is. The verbs are listed: a new one is added
here, where a reader sees whether it is one.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

FOLDERS = ("datasets", "augment", "pipelines", "train", "benchmarks")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
QUESTIONS = frozenset(
    {
        "What", "Whatever", "How", "However", "Where", "Who", "Which", "When", "Why", "Of", "For", "As", "In", "To",
        "With", "From", "By", "On",
    }
)  # fmt: skip
LISTED = """
    Add Adjust Allow Append Apply Assemble Assign Average Begin Blend Bound Build Call Change Check Choose
    Classify Close Collate Collect Color Combine Compare Compose Compute Concatenate Convert Convolve Copy
    Correlate Count Create Cut Decide Decode Delete Derive Describe Design Detect Digest Distinguish Divide
    Double Draw Drop Embed Encode End Escape Evaluate Explain Extract Fade Fetch Fill Filter Find Fit Flag
    Forbid Forget Format Freeze Gather Group Hash Hide Hold Identify Ignore Import Initialize Interpolate Join
    Keep Label Link List Load Locate Lock Log Make Map Mask Match Measure Merge Mix Move Multiply Name Negate
    Normalize Note Open Pack Pair Parse Pass Pickle Plan Play Pool Predict Prepare Prepend Print Profile
    Put Quote Raise Read Rebuild Recall Receive Record Recover Redirect Reduce Refuse Register Regroup Relate
    Remember Remove Rename Render Renounce Repeat Replace Report Request Resample Resize Resolve Return Reverse
    Rise Round Run Sample Scale Score Search Select Send Serve Set Shield Shift Shorten Show Silence Simulate
    Sleep Sort Split Spread Stack Standardize Start Stop Store Stretch Strip Subtract Suggest Sum Sweep
    Synthesize Take Time Train Transform Translate Transpose Turn Undo Unpack Use Vary Wait Watch Weight Write
    Yield
"""
VERBS = frozenset(LISTED.split())
RIDDLES = frozenset({"nobody", "somebody", "stranger", "strangers", "told", "walls"})  # in a first sentence

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


def documented(path: Path) -> Iterator[tuple[Documented, str]]:
    """Yield all that has a docstring in a file, with it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Documented) and (docstring := ast.get_docstring(node)):
            yield node, docstring


def problem(node: Documented, docstring: str) -> str | None:
    """Describe what is wrong with the first words; None: nothing."""
    words = [word.strip("`'\"(),.:;") for word in docstring.split("\n\n")[0].split()]
    first, second, *_ = [*words, "", ""]
    if riddles := sorted(RIDDLES.intersection(words)):
        return f"speaks of {riddles[0]!r}: use the field's word"
    if isinstance(node, ast.ClassDef | ast.Module):
        return f"begins with {first!r}: say what it is" if first in QUESTIONS else None
    if any(ast.unparse(decorator).endswith(("property", ".setter")) for decorator in node.decorator_list):
        return f"begins with {first!r}: say what it is" if first in QUESTIONS else None
    if first == "Whether" and node.returns is not None and ast.unparse(node.returns).startswith(("bool", "TypeGuard")):
        return None
    if first not in VERBS or second == "of":  # "Name of a file" is no verb
        return f"begins with {first!r}: say what it does"
    return None


def problems(path: Path) -> list[str]:
    """List what is wrong with a file's docstrings."""
    return [
        f"line {getattr(node, 'lineno', 1)}, {getattr(node, 'name', 'module')}: {found}"
        for node, docstring in documented(path)
        if (found := problem(node, docstring)) is not None
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_say_first_what_a_thing_does_or_is(path: Path) -> None:
    assert problems(path) == []


def problems_of(source: str, path: Path) -> list[str]:
    path.write_text(source)
    return problems(path)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def rms(x): "Root mean square."', ["line 1, rms: begins with 'Root': say what it does"]),
        ('def rms(x): "Compute the root mean square."', []),
        ('def read(x): "Read what nobody reads."', ["line 1, read: speaks of 'nobody': use the field's word"]),
        ('def name(x): "Name of a file."', ["line 1, name: begins with 'Name': say what it does"]),
        ('def name(x): "Name a file."', []),
        ('def ready(x): "Whether it is ready."', ["line 1, ready: begins with 'Whether': say what it does"]),
        ('def ready(x) -> bool: "Whether it is ready."', []),
        ('class Run:\n    "What is left of a run."', ["line 1, Run: begins with 'What': say what it is"]),
        ('class Run:\n    @property\n    def path(self): "The folder."', []),
        ('"How a file looks."', ["line 1, module: begins with 'How': say what it is"]),
    ],
)
def test_a_riddle_is_found(source: str, expected: list[str], tmp_path: Path) -> None:
    assert problems_of(source, tmp_path / "file.py") == expected
