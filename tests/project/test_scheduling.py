"""The examples of scheduled rebuilds run the command that they promise, in files that their programs accept."""

import ast
import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from tutti.pipelines.build.arguments import parse

EXAMPLES = ROOT / "examples" / "scheduling"
COMMAND = [
    ".venv/bin/python", "-m", "pipelines.build", "--dataset", "ultimate", "--wait", "3600",
    "--publish", "/srv/datasets/ultimate",
]  # fmt: skip
NIGHTLY = "17 3 * * *"
CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))  # crontab(5): minute, hour, day, month, weekday


def text(name: str) -> str:
    return (EXAMPLES / name).read_text(encoding="utf-8")


def crontab_job() -> str:
    """The only line that is neither comment nor variable."""
    lines = [line for line in text("crontab").splitlines() if line and not line.startswith("#")]
    (job,) = [line for line in lines if not re.match(r"[A-Z_]+=\S+$", line)]
    return job


def unit(name: str) -> configparser.ConfigParser:
    """A systemd unit; systemd's syntax is near enough to INI where no key is repeated."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text(name))
    return parser


def workflow() -> dict:
    """The workflow; YAML 1.1 reads the key `on` as true."""
    content = yaml.safe_load(text("github-actions.yml"))
    content["on"] = content.pop(True)
    return content


def build_step() -> str:
    (step,) = [step for step in workflow()["jobs"]["rebuild"]["steps"] if step.get("name") == "Build and publish"]
    return step["run"]


def constant(name: str) -> list | str:
    """A constant of the DAG's module."""
    for node in ast.parse(text("airflow_dag.py")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(name)


def dag_argument(name: str) -> object:
    """A literal argument of the @dag decorator."""
    for node in ast.walk(ast.parse(text("airflow_dag.py"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dag":
            (keyword,) = [keyword for keyword in node.keywords if keyword.arg == name]
            return ast.literal_eval(keyword.value)
    raise LookupError(name)


def commands() -> dict[str, list[str]]:
    """The build command of each example, relative to the checkout."""
    job = shlex.split(crontab_job().split(None, 5)[5].partition("&&")[2].partition(">>")[0])
    (line,) = [line for line in build_step().splitlines() if "pipelines.build" in line]
    return {
        "crontab": job,
        "tutti.service": shlex.split(unit("tutti.service")["Service"]["ExecStart"].removeprefix("/opt/tutti/")),
        "github-actions.yml": shlex.split(line.partition("||")[0]),
        "airflow_dag.py": list(constant("COMMAND")),
    }


# --- all of them


def test_every_example_runs_the_same_command() -> None:
    assert commands() == dict.fromkeys(("crontab", "tutti.service", "github-actions.yml", "airflow_dag.py"), COMMAND)
    assert " ".join(["python", *COMMAND[1:]]) in text("README.md")


def test_the_build_understands_every_flag_of_the_command() -> None:
    arguments, for_beam = parse(COMMAND[3:])

    assert (arguments.dataset, arguments.wait) == ("ultimate", 3_600.0)
    assert arguments.publish == Path("/srv/datasets/ultimate")
    assert for_beam == []


def test_every_example_starts_at_the_same_minute_of_the_night() -> None:
    assert crontab_job().split(None, 5)[:5] == NIGHTLY.split()
    assert workflow()["on"]["schedule"] == [{"cron": NIGHTLY}]
    assert dag_argument("schedule") == NIGHTLY
    assert unit("tutti.timer")["Timer"]["OnCalendar"] == "*-*-* 03:17:00"


def test_the_readme_names_every_example() -> None:
    others = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}

    assert {name for name in others if f"`{name}`" in text("README.md")} == others
    assert len(others) == 5


# --- cron


def test_the_time_fields_of_the_crontab_are_in_their_ranges() -> None:
    fields = crontab_job().split(None, 5)[:5]

    for field, (low, high) in zip(fields, CRON_RANGES, strict=True):
        assert field == "*" or low <= int(field) <= high


def test_the_job_of_the_crontab_is_a_shell_command_without_a_bare_percent_sign() -> None:
    job = crontab_job().split(None, 5)[5]

    assert subprocess.run(["sh", "-n", "-c", job], check=False).returncode == 0
    assert re.search(r"(?<!\\)%", job) is None  # cron makes it a new line
    assert text("crontab").endswith("\n")  # or cron ignores the last line


# --- systemd


def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for name in ("tutti.service", "tutti.timer"):  # it looks whether the program is there
        (tmp_path / name).write_text(text(name).replace("ExecStart=/opt/tutti/.venv/bin/python", "ExecStart=/bin/true"))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "tutti.service", tmp_path / "tutti.timer"],
        capture_output=True,
        text=True,
        check=False,
    )

    ours = [line for line in done.stderr.splitlines() if "tutti" in line]  # not what it says of the machine's units
    assert (done.returncode, ours) == (0, [])


def test_the_service_tries_again_later_but_not_where_only_a_person_helps() -> None:
    service = unit("tutti.service")["Service"]

    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"].split() == ["1", "2", "3", "4", "5", "74"]  # not 75: try later
    assert service["TimeoutStartSec"] == "infinity"


def test_the_timer_makes_up_for_a_night_when_the_machine_was_off() -> None:
    assert unit("tutti.timer")["Timer"]["Persistent"] == "true"
    assert unit("tutti.timer")["Install"]["WantedBy"] == "timers.target"


# --- GitHub Actions


@pytest.mark.parametrize(("exit_code", "outcome"), [(0, 0), (75, 0), (3, 3), (5, 5)])
def test_the_workflow_fails_only_where_a_person_can_help(tmp_path: Path, exit_code: int, outcome: int) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" > ran\nexit {exit_code}\n')
    python.chmod(0o755)

    # GitHub's own flags of `shell: bash`
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", build_step()],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == outcome
    assert ("::warning::try later" in done.stdout) == (exit_code == 75)
    assert (tmp_path / "ran").read_text().split() == COMMAND[1:]


def test_two_workflows_never_build_at_once_and_none_is_cut_short() -> None:
    assert workflow()["concurrency"] == {"group": "rebuild-ultimate", "cancel-in-progress": False}


def test_the_workflow_keeps_the_manifest_and_never_the_audio() -> None:
    uploads = [step for step in workflow()["jobs"]["rebuild"]["steps"] if "upload" in step.get("uses", "")]

    assert [step["with"]["path"] for step in uploads] == ["build/ultimate/current/manifest"]


# --- Airflow


def test_the_dag_runs_once_at_a_time_and_does_not_make_up_for_past_nights() -> None:
    assert dag_argument("max_active_runs") == 1
    assert dag_argument("catchup") is False


def test_the_dag_imports_nothing_of_ours() -> None:
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse(text("airflow_dag.py")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }

    assert imported == {"airflow", "datetime", "subprocess"}  # its Python is Airflow's, not ours
    assert constant("CHECKOUT") == "/opt/tutti"
