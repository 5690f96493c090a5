"""A build of which nothing has changed costs next to nothing: it is answered before Beam is imported.

After a complete build, `.unchanged.json` in the output root says by which command, code and libraries the version came
about, and how every input and output file looked (size, inode, times). While all of that still holds, the same
command has nothing to do. Whoever doubts the disk runs `pipelines.verify`, which reads every byte.
"""

import argparse
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets.errors import TuttiError
from datasets.files import write_file
from datasets.manifest import digest_of
from datasets.scores.soundfonts import VARIABLE
from pipelines.arguments import output_root

ROOT = Path(__file__).resolve().parents[1]
CODE = ("datasets", "pipelines")  # what decides a dataset
STATE = ".unchanged.json"
# Flags that change what is said or when, not what is built; with these, nothing is answered from memory.
OTHER_ERRANDS = ("list", "dry_run", "download_only", "publish", "retry_status")
HOW_ONLY = ("wait", "videos_per_hour", "cookies", "proxy", "ytdlp", "media_host", "section_above", *OTHER_ERRANDS)


def answer_of(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> str | None:
    """The summary of a build that has nothing to do, as a line of JSON; None: it must run, or be asked for."""
    start_s = time.perf_counter()
    asked_otherwise = any(getattr(arguments, flag) for flag in OTHER_ERRANDS)
    if asked_otherwise or os.environ.get("TUTTI_CRASH_AT") or os.environ.get("TUTTI_FAIL_AT"):
        return None
    if any(flag.startswith("-") and not flag.startswith("--direct") for flag in beam_flags):  # let Beam look at them
        return None
    try:
        output = output_root(arguments).absolute()
        state = json.loads((output / STATE).read_bytes())
        current = (output / "current").readlink().name
        if state["command"] != command_digest(arguments) or state["summary"]["version"] != current:
            return None
        for path, seen in {**state["inputs"], str(output / "current" / ""): state["output"]}.items():
            if look_of(path) != seen:
                return None
    except (OSError, ValueError, KeyError, TypeError, TuttiError):  # none, of another time, or an error to be told
        return None
    work = {name: {"reused": part["reused"] + part["computed"], "computed": 0} for name, part in state["work"].items()}
    seconds = {"total": round(time.perf_counter() - start_s, 3)}
    return json.dumps({**state["summary"], "changed": False, "work": work, "seconds": seconds})


def remember(arguments: argparse.Namespace, inputs: Iterable[str], output: Path, summary: dict[str, Any]) -> None:
    """Keep what `answer_of` needs; nothing where an input cannot be looked at.

    Args:
        arguments: of the command.
        inputs: files, folders, web addresses of mirrors.
        output: root, with the version published.
        summary: of the build.
    """
    looks = {path: look_of(path) for path in sorted(set(inputs))}
    path = output / STATE
    if None in looks.values() or any(source["pending"] for source in summary["sources"].values()):
        path.unlink(missing_ok=True)  # what is pending may come
        return
    state = {
        "command": command_digest(arguments),
        "inputs": looks,
        "output": look_of(str(output / "current" / "")),
        "work": summary["work"],
        "summary": {name: value for name, value in summary.items() if name not in ("seconds", "work")},
    }
    write_file(path, json.dumps(state).encode(), durable=False)


def command_digest(arguments: argparse.Namespace) -> str:
    """Of all that decides a build, but for its inputs: flags, code, libraries, Python, the current folder."""
    flags = {name: _plain(value) for name, value in vars(arguments).items() if name not in HOW_ONLY}
    soundfonts, here = os.environ.get(VARIABLE), str(Path.cwd())
    return digest_of([flags, soundfonts, here, code_digest(), _libraries(), platform.python_version()])


def _plain(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value, list) else None if value is None else str(value)


@functools.cache
def code_digest() -> str:
    """Of our own files."""
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".json", ".html", ".safetensors"):
                digest.update(f"{path.relative_to(ROOT)}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _libraries() -> list[str]:
    return sorted(f"{found.metadata['Name']} {found.version}" for found in importlib.metadata.distributions())


def look_of(path: str) -> str | None:
    """How a file or folder looks without reading it: names, sizes, times; of a web mirror, its checksums.

    None: it cannot be told.
    """
    if path.startswith(("http://", "https://")):
        return _checksums_of(path)
    if not os.path.exists(path):
        return "absent"
    found = []
    for folder, folders, names in os.walk(path) if os.path.isdir(path) else [("", [], [path])]:
        folders.sort()
        for name in sorted(names):
            place = os.path.join(folder, name)
            status = os.stat(place)
            # The time of the last change of the inode too: others can be set, and archives set them to 1970.
            times = [status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
            found.append([os.path.relpath(place, path), status.st_size, *times])
    return digest_of(found)


def _checksums_of(url: str) -> str | None:
    import requests

    with contextlib.suppress(requests.RequestException):
        answer = requests.get(f"{url.rstrip('/')}/SHA256SUMS", timeout=10)
        if answer.status_code == 200:
            return hashlib.sha256(answer.content).hexdigest()
    return None
