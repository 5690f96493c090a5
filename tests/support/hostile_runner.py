"""Run commands in forks of one process that has everything imported: jobs in, what became of them out, one JSON a line.

    python tests/support/hostile_runner.py < jobs.jsonl

A job: `module`, `arguments`, `folder` (its current folder), `may_write` (folders) and `closed` (folders that nobody may
open). An answer: `code`, `stdout`, `stderr`, `seconds`, `more_memory` (bytes above what the process had), `touched`
(what it wrote outside of `may_write` or opened below `closed`).
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

LIMIT_S = float(os.environ.get("TUTTI_HOSTILE_SECONDS", "10"))
LIMIT_BYTES = 1 << 30
MODULES = (
    "pipelines.verify", "pipelines.info", "pipelines.diff", "pipelines.export", "pipelines.versions",
    "pipelines.relabel", "pipelines.build", "pipelines.build.job", "train.run", "train.evaluate",
)  # fmt: skip
LATE = (
    "datasets.manifest_schema", "pipelines.verify.repair", "pipelines.verify.sources", "pipelines.diff.report",
    "pipelines.diff.sound", "pipelines.stages.write", "train.scoring.pictures", "pipelines.export.formats.csv",
    "pipelines.export.formats.huggingface",
)  # fmt: skip
WRITING = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod", "os.chown",
    "os.utime", "shutil.rmtree", "shutil.copyfile", "shutil.move",
}  # fmt: skip
NEVER = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")


def watch(job: dict[str, Any], touched: list[str]) -> None:
    """Note what the process does outside of where it may; for the rest of its life."""
    may_write = [os.path.realpath(folder) for folder in job["may_write"]]
    closed = [os.path.realpath(folder) for folder in job["closed"]]
    busy = threading.local()

    def below(path: Any, folders: list[str]) -> bool:
        place = os.path.realpath(os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path)))
        at_link = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
        return any(os.path.commonpath([folder, spot]) == folder for folder in folders for spot in (place, at_link))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if getattr(busy, "now", False):
            return
        busy.now = True
        try:
            if event == "open" and isinstance(arguments[0], (str, bytes)):
                path, flags = os.fsdecode(arguments[0]), arguments[2] or 0
                if below(path, closed):
                    touched.append(f"opened {path}")
                writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
                if writes and not os.path.isdir(path) and not below(path, may_write):  # a folder: a file without a name
                    touched.append(f"wrote {path}")
            elif event in WRITING:
                for path in (one for one in arguments[:2] if isinstance(one, (str, bytes))):
                    if os.path.isabs(os.fsdecode(path)) and not below(os.fsdecode(path), may_write):
                        touched.append(f"{event} {os.fsdecode(path)}")
            elif event in NEVER and not job.get("may_run"):
                touched.append(f"{event} {str(arguments)[:200]}")
        finally:
            busy.now = False

    sys.addaudithook(hook)


def command_of(name: str) -> Any:
    """The module of a command: a file, or the `__main__` of a folder."""
    module = importlib.import_module(f"tutti.{name}")
    return importlib.import_module(f"tutti.{name}.__main__") if hasattr(module, "__path__") else module


def run(job: dict[str, Any], answer: int) -> None:
    """The child's life."""
    touched: list[str] = []
    os.chdir(job["folder"])
    size, began = (int(pages) * resource.getpagesize() for pages in Path("/proc/self/statm").read_text().split()[:2])
    resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main = command_of(job["module"]).main
    watch(job, touched)

    end = os._exit

    def tell(code: int) -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os.write(answer, json.dumps({"code": code, "touched": sorted(set(touched))[:20], "began": began}).encode())
        end(0)

    os._exit = tell  # a build that is stopped ends so
    try:
        code = main(job["arguments"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 70
    tell(code)


def forked(job: dict[str, Any]) -> dict[str, Any]:
    """Carry out a job in a child, which is killed when its time is over."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        read, write = os.pipe()
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            os.setsid()
            os.close(read)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            run(job, write)
        os.close(write)
        status, usage, late = None, None, False
        while status is None:
            pid, found, usage = os.wait4(child, os.WNOHANG)
            if pid:
                status = found
            elif time.monotonic() - start > LIMIT_S:
                late = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
                _, status, usage = os.wait4(child, 0)
            else:
                time.sleep(0.003)
        said = b""
        while part := os.read(read, 1 << 16):
            said += part
        os.close(read)
        out.seek(0)
        err.seek(0)
        told = json.loads(said) if said else {"code": os.waitstatus_to_exitcode(status), "touched": []}
        assert usage is not None
        return {
            **told,
            "late": late,
            "stdout": out.read(1 << 20).decode(errors="replace"),
            "stderr": err.read(1 << 20).decode(errors="replace"),
            "seconds": round(time.monotonic() - start, 3),
            "more_memory": usage.ru_maxrss * 1024 - told.pop("began", 0),
        }


def main() -> None:
    """Answer jobs until there is none."""
    for name in (*MODULES, *LATE):
        importlib.import_module(f"tutti.{name}")
    importlib.import_module("torch")
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line))), flush=True)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2])]
    main()
