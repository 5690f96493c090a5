"""What `make setup` installs is pinned to the version and the file, and the workflows bring nothing unpinned along."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EXAMPLE = ROOT / "examples" / "scheduling" / "github-actions.yml"
OF_TORCH = re.compile(r"(nvidia|cuda|triton)\b")  # what a CUDA build of torch brings along, pinned by torch itself
WITH_PYTHON = "pip"  # comes with Python's own venv
REMEDY = "rm -r .venv, then make setup"


LOCKS = ("requirements.lock", "requirements-source.lock")  # wheels; sources of what has none


def pins(text: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([\w.!-]+)", text, re.M)
    return {canonicalize_name(name): version for name, version in found}


def lock(name: str) -> dict[str, str]:
    return pins((ROOT / name).read_text(encoding="utf-8"))


def asked_for() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


def installed(python: Path) -> dict[str, str]:
    """Canonical name -> version without the build of all that an environment sees, but for what comes with others."""
    code = "import importlib.metadata as m, json\n"
    code += "print(json.dumps([[d.metadata['Name'], d.version] for d in m.distributions()]))"
    listed = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    found = {canonicalize_name(name): version.partition("+")[0] for name, version in json.loads(listed.stdout)}
    return {n: v for n, v in found.items() if n != WITH_PYTHON and not OF_TORCH.match(n)}


# --- pins


def test_what_is_installed_is_what_constraints_txt_says_and_nothing_else() -> None:
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("tests run in another environment than that of make setup")
    assert installed(python) == lock("constraints.txt"), REMEDY


def test_the_lock_files_have_every_pin_but_torch_and_no_other() -> None:
    every = lock("constraints.txt")
    wheels, sources = map(lock, LOCKS)
    assert wheels | sources | {"torch": every["torch"]} == every
    assert wheels.keys().isdisjoint(sources)


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_file_has_digests_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]

    assert "://" not in text
    assert all(re.fullmatch(r"[\w.-]+==[\w.!-]+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines)
    entries = text.replace(" \\\n", " ").splitlines()[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def test_every_dependency_is_pinned_within_its_range_and_has_its_reason() -> None:
    main = lock("constraints.txt")
    outside = [
        str(wanted) for wanted in asked_for() if main.get(canonicalize_name(wanted.name)) not in wanted.specifier
    ]
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    tables = text[text.index("dependencies = [") : text.index("[tool.ruff]")]

    assert outside == []
    assert re.findall(r'^ +"[^"]+",(?!  # \w).*$', tables, re.M) == []


def test_every_pin_says_what_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not re.fullmatch(r"#.*|[\w.-]+==[\w.!-]+  # \S.*", line)] == []


def test_all_that_an_installed_package_needs_is_pinned() -> None:
    main = lock("constraints.txt")
    missing = {
        f"{name} needs {requirement}"
        for name in main
        for requirement in map(Requirement, importlib.metadata.requires(name) or ())
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if canonicalize_name(requirement.name) not in main and not OF_TORCH.match(requirement.name)
    }
    assert missing == set()


# --- make


def recipe(target: str) -> str:
    """What make would run for a target whose files are all out of date."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_setup_installs_files_with_digests_and_torch_by_its_pin() -> None:
    installs = [line for line in recipe("setup").splitlines() if " install " in line]

    flags = ["--require-hashes --no-deps --only-binary :all: --requirement requirements.lock"]
    flags += ["--require-hashes --no-deps --no-build-isolation --requirement requirements-source.lock"]
    flags += ["--constraint constraints.txt  torch"]
    assert [line.partition("--disable-pip-version-check ")[2] for line in installs] == flags


def test_torch_flags_reach_torch_alone() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "setup", "TORCH_FLAGS=--index-url somewhere"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [line for line in done.stdout.splitlines() if "somewhere" in line]
    assert line.endswith("--constraint constraints.txt --index-url somewhere torch")


def test_pip_refuses_a_file_with_another_digest(tmp_path: Path) -> None:
    """The flags of setup, on a wheel of the test's own."""
    wheel = tmp_path / "six-1.17.0-py2.py3-none-any.whl"
    wheel.write_bytes(b"not what the lock names")
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (tmp_path / "six.lock").write_text(re.search(r"^six==.*\n(?: +--hash.*\n)+", text, re.M)[0])  # type: ignore[index]
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--no-index", "--require-hashes"]
    done = subprocess.run(
        [*command, "--no-deps", "--target", tmp_path / "to", "--find-links", tmp_path, "-r", tmp_path / "six.lock"],
        capture_output=True, text=True, check=False, env={},
    )  # fmt: skip

    assert done.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "to").exists()


# --- workflows


def workflow(path: Path) -> dict[str, Any]:
    """A workflow; YAML 1.1 reads the key `on` as true."""
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["on"] = content.pop(True)
    return content


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in workflow(path)["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("path", [*WORKFLOWS, EXAMPLE], ids=lambda path: path.name)
def test_a_workflow_may_read_and_runs_no_action_but_by_its_commit(path: Path) -> None:
    assert workflow(path)["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow(path)["jobs"].values())
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", one) for one in used)
    text = path.read_text(encoding="utf-8")
    assert all(re.search(rf"{one} # v\d+\.\d+\.\d+\n", text) for one in used)


def test_all_workflows_use_an_action_at_one_commit() -> None:
    used = {step["uses"] for path in [*WORKFLOWS, EXAMPLE] for step in steps(path) if "uses" in step}
    assert len(used) == len({one.partition("@")[0] for one in used})


def test_pushes_and_pull_requests_run_what_every_machine_runs() -> None:
    content = workflow(ROOT / ".github" / "workflows" / "ci.yml")

    assert content["on"].keys() == {"push", "pull_request"}
    assert [step["run"] for step in content["jobs"]["test"]["steps"] if "run" in step] == ["bash .ci/run"]


def test_every_week_the_pins_are_audited_and_the_newest_versions_tried() -> None:
    content = workflow(ROOT / ".github" / "workflows" / "audit.yml")
    scripts = {name: [s["run"] for s in job["steps"] if "run" in s] for name, job in content["jobs"].items()}

    assert content["on"]["schedule"] == [{"cron": "41 4 * * 1"}]
    audits = [script.replace("\\\n", "").split() for script in scripts["vulnerabilities"] if "/pip-audit" in script]
    files = {audit[i + 1] for audit in audits for i, word in enumerate(audit) if word == "--requirement"}
    assert files == {"constraints.txt", "requirements.lock", "requirements-source.lock"}
    assert all((ROOT / name).is_file() for name in files)
    assert all("--disable-pip" in audit for audit in audits)  # what is audited is never installed
    assert "make lock UPGRADE=all" in scripts["newest"][0]
