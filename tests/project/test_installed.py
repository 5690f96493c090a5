"""`pip install .` puts everything into one package, which runs from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY

from tutti.datasets.sample import write_sample_mirror


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package; what it needs comes from this environment."""
    source, target = tmp_path_factory.mktemp("source") / "tutti", tmp_path_factory.mktemp("installed")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.split(b"\0")
    if files == [b""]:
        pytest.skip("needs the list of files that git has")
    for file in map(os.fsdecode, filter(None, files)):  # a copy: setuptools builds within the folder
        if (ROOT / file).is_file() and not file.startswith("tests/"):
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).write_bytes((ROOT / file).read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", target, source], check=True, timeout=300)
    return target


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_an_installed_package_builds_and_verifies_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    write_sample_mirror(tmp_path / "mirror", seed=0, size=TINY)
    places = ("--cache-dir", str(tmp_path / "cache"), "--output", "out")
    made = ("--dataset", "irmas", "--mirror", "mirror", "--limit", "12", "--embedder", "none")

    built = run(installed, tmp_path, "tutti.pipelines.build", *made, *places)
    assert (built.returncode, built.stderr if built.returncode else "") == (0, "")
    assert run(installed, tmp_path, "tutti.pipelines.verify", "out").returncode == 0
    assert sorted(path.name for path in (installed / "tutti").iterdir() if path.name[0] != "_") == [
        "augment", "datasets", "pipelines", "train",
    ]  # fmt: skip


@pytest.mark.slow
def test_what_an_installed_package_says_can_be_typed(installed: Path, tmp_path: Path) -> None:
    refused = run(installed, tmp_path, "tutti.pipelines.verify", "--levl", "1", "out")

    assert refused.stderr == (
        "error: unknown flag --levl (did you mean '--level'?); see python -m tutti.pipelines.verify --help\n"
    )
    assert "python -m tutti.pipelines.cache list" in run(installed, tmp_path, "tutti.pipelines.cache", "--help").stdout


@pytest.mark.slow
def test_every_file_that_the_code_reads_is_installed(installed: Path) -> None:
    kinds = {".py", ".json", ".html", ".safetensors"}
    ours = {
        str(path.relative_to(ROOT))
        for room in ("augment", "datasets", "pipelines", "train")
        for path in (ROOT / room).rglob("*")
        if path.suffix in kinds
    }

    assert {str(path.relative_to(installed / "tutti")) for path in (installed / "tutti").rglob("*")} >= ours
