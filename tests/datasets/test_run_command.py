"""How a command ends: one line and an exit code whatever comes, streams that are closed, full or unread, signals."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from tutti.datasets.command import run_command
from tutti.datasets.errors import UsageError
from tutti.datasets.streams import shield


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, text=True, timeout=120,
        **{"capture_output": True, **options},
    )  # fmt: skip


class Endless(Exception):
    """An error that nobody expects."""


def deep() -> None:
    deep()


ENDS: list[tuple[BaseException | type[BaseException], int, str]] = [
    (UsageError("--limit 0: expected more"), 2, "error: --limit 0: expected more\n"),
    (
        OSError(errno.ENAMETOOLONG, "File name too long", "/x"), 74,
        "error: /x: File name too long; choose a shorter name, then run it again\n",
    ),
    (MemoryError(), 74, "error: not enough memory; free memory or raise `ulimit -v`, then run it again\n"),
    (
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried"), 74,
        "error: not enough memory; free memory or raise `ulimit -v`, then run it again\n",
    ),
    (KeyboardInterrupt(), 130, "interrupted\n"),
    (
        UnicodeEncodeError("ascii", "Dvořák", 3, 4, "ordinal not in range(128)"), 2,
        "error: 'ř': names are written as ascii here; set LC_ALL=C.UTF-8, then run it again\n",
    ),
    (
        UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"), 2,
        "error: '\\udcff': a name holds bytes that are not UTF-8; rename it, then run it again\n",
    ),
    (ModuleNotFoundError("No module named 'torch'"), 1,
     "error: No module named 'torch'; install what is missing with `make setup`, then run it again\n"),
]  # fmt: skip


ENDS += [
    (
        ImportError("libtorch_cpu.so: failed to map segment from shared object"), 74,
        "error: not enough memory; free memory or raise `ulimit -v`, then run it again\n",
    ),
    (
        ImportError("libx.so: cannot open shared object file: Too many open files"), 74,
        "error: libx.so: cannot open shared object file: Too many open files; raise `ulimit -n`, then run it again\n",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code", "line"), ENDS, ids=lambda value: type(value).__name__)
def test_each_end_has_its_code_and_one_line(error, code, line, capsys):
    def command(_):
        raise error

    assert run_command(command, []) == code
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("kind", [RecursionError, KeyError, Endless])
def test_an_internal_error_is_one_line_that_says_where_and_how_to_report_it(kind, capsys):
    def command(_):
        if kind is RecursionError:
            deep()
        raise kind("first\nsecond \x1b[31m")

    assert run_command(command, []) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"internal error: {kind.__name__}: ")
    assert "(tests/datasets/test_run_command.py:" in line
    assert line.endswith("; please report it with the traceback that TUTTI_DEBUG=1 shows\n")
    assert line.count("\n") == 1
    assert "\x1b" not in line


def test_of_the_traceback_that_a_worker_hands_on_its_last_line_is_told(capsys):
    def command(_):
        raise RuntimeError("Traceback (most recent call last):\n  File 'x'\nKeyError: 'a' [while running 'clean']\n")

    assert run_command(command, []) == 1
    line = capsys.readouterr().err
    assert line.startswith(
        "internal error: RuntimeError: KeyError: 'a' [while running 'clean'] (tests/datasets/test_run_command.py:"
    )
    assert line.count("\n") == 1


def test_the_traceback_is_shown_to_those_who_ask(capsys, monkeypatch):
    monkeypatch.setenv("TUTTI_DEBUG", "1")

    assert run_command(lambda _: [][1], []) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last):\n")
    assert error.splitlines()[-1].startswith("internal error: IndexError: list index out of range")


def test_a_nul_in_an_argument_is_a_usage_error(capsys):
    assert run_command(lambda _: 0, ["--output", "a\0b"]) == 2
    assert capsys.readouterr().err == (
        "error: argument 'a\\x00b': holds a NUL character, which no file or name can; leave it out\n"
    )


# --- streams, signals: real processes


@pytest.fixture
def verify(sample_build: Path):
    return ["-m", "pipelines.verify", str(sample_build)]


def shell(command: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, *arguments], cwd=ROOT, env={**os.environ, **env},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_closed_streams_change_nothing_but_what_is_said(verify):
    for closed in (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        done = shell(f'"$@" {closed}', *verify)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_file_opened_while_stdout_is_closed_does_not_become_stdout(tmp_path: Path):
    program = (
        "import sys; sys.argv = ['-m']\nfrom tutti.datasets.command import run_command\n"
        "def command(_):\n    with open(sys.orig_argv[-1], 'w'):\n        print('said')\n    return 0\n"
        "sys.exit(run_command(command, []))"
    )
    done = shell('"$@" >&-', "-c", program, str(tmp_path / "file"))

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "file").read_text() == ""


def test_a_reader_who_leaves_is_no_error(verify):
    done = shell('"$@" | true; exit ${PIPESTATUS[0]}', *verify)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_behind_stdout_is_said_once(verify):
    done = shell('"$@" >/dev/full', *verify)

    assert done.returncode == 74
    assert done.stderr == "error: No space left on device; free space, then run it again\n"


def test_help_that_nobody_can_read_ends_like_any_other_output():
    asked = ("-m", "pipelines.verify", "--help")
    done = shell('"$@" >/dev/full', *asked)
    assert (done.returncode, done.stderr) == (74, "error: No space left on device; free space, then run it again\n")

    done = shell('"$@" | true; exit ${PIPESTATUS[0]}', *asked)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_behind_stderr_leaves_the_exit_code():
    done = shell('"$@" 2>/dev/full', "-m", "pipelines.verify", "/nowhere")

    assert (done.returncode, done.stdout) == (2, "")


def test_names_of_any_language_are_said_where_the_terminal_knows_only_ascii(tmp_path: Path):
    for env in ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}):
        done = shell('"$@"', "-m", "pipelines.verify", str(tmp_path / "Dvořák"), **env)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {tmp_path}/Dvo")
        assert done.stderr.count("\n") == 1


def test_a_name_that_is_no_utf8_or_acts_on_the_terminal_is_written_out(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.verify", os.fsencode(tmp_path) + b"/\xff\x1b]0;owned\x07\xc2\x9b"],
        cwd=ROOT, capture_output=True, timeout=120,
    )  # fmt: skip

    assert done.returncode == 2
    assert rb"/\udcff\x1b]0;owned\x07\x9b" in done.stderr
    assert not any(byte < 32 for byte in done.stderr.removesuffix(b"\n"))


WAITS = """
import sys, time
from pathlib import Path
from tutti.datasets.command import run_command
from tutti.datasets.files import atomic_file
def command(_):
    with atomic_file(Path(sys.argv[1])) as stream:
        print("ready", flush=True)
        time.sleep(60)
    return 0
sys.exit(run_command(command, []))
"""


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "stopped by SIGTERM\n"), (signal.SIGINT, 130, "interrupted\n")],
)
def test_a_signal_is_one_line_and_clears_away_what_is_half_written(tmp_path: Path, number, code, line):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(tmp_path / "file")], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)

    assert process.communicate(timeout=30)[1] == line
    assert process.returncode == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code", "line"), [(signal.SIGTERM, 143, "stopped by SIGTERM"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_in_the_middle_of_a_class_body_ends_the_command_as_any_other(capsys, number, code, line):
    class Field:
        def __set_name__(self, owner, name):  # whatever is raised here, Python makes a RuntimeError of it
            os.kill(os.getpid(), number)

    def command(_):
        type("Config", (), {"field": Field()})
        return 0

    assert run_command(command, []) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_a_library_that_aborts_as_it_clears_up_after_an_error_changes_neither_line_nor_code(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.__cxa_atexit(libc.abort, None, None)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.info", str(tmp_path / "nothing")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip

    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1


def test_ctrl_c_and_missing_packages_while_imports_run_are_one_line(tmp_path: Path):
    (tmp_path / "pyarrow.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = python("-m", "pipelines.verify", "x", cwd=tmp_path, env={"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (130, "interrupted\n")

    (tmp_path / "pyarrow.py").write_text("import nothing_of_this_name")
    done = python("-m", "pipelines.verify", "x", cwd=tmp_path, env={"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (
        1,
        "error: No module named 'nothing_of_this_name'; install what is missing with `make setup`, then run it again\n",
    )


def test_a_program_that_imports_us_keeps_its_own_tracebacks(tmp_path: Path):
    (tmp_path / "own.py").write_text("import datasets, pipelines, train\nraise ValueError('its own')")
    done = python("own.py", cwd=tmp_path)

    assert done.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert done.stderr.splitlines()[-1] == "ValueError: its own"


# --- what streams let through


def test_streams_write_out_what_acts_and_keep_lines_tabs_and_languages():
    assert shield("a\tDvořák\n\x1b[2Jb\r\u202e\n") == "a\tDvořák\n\\x1b[2Jb\\r\\u202e\n"


def test_streams_leave_passwords_out():
    assert shield("at https://me:pa/ss@host/x?token=abc&v=1\n") == "at https://host/x?token=***&v=1\n"


def test_everything_that_a_command_prints_is_shielded(capsys):
    def command(_):
        print("name\x1b[31m", "https://u:p@h/")
        print("name\x1b[31m", file=sys.stderr)
        return 0

    assert run_command(command, []) == 0
    assert capsys.readouterr() == ("name\\x1b[31m https://h/\n", "name\\x1b[31m\n")
    assert not isinstance(sys.stdout, io.StringIO)
