"""A build of which nothing has changed costs next to nothing: it is answered before Beam is imported.

After a complete build, `.unchanged.json` in the output root says by which command, code and libraries the version came
about, how every input looked before it was read (`looks.py`), and how the output looked in the end. While all of that
still holds, the same command has nothing to do. Whoever doubts the disk runs `pipelines.verify`, which reads it all.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutti.datasets.addresses import Credentials
from tutti.datasets.bounded import read_json
from tutti.datasets.errors import TuttiError
from tutti.datasets.files import default_cache_folder, write_file
from tutti.datasets.manifest import digest_of
from tutti.datasets.manifest_types import ManifestContent
from tutti.datasets.printable import in_unicode
from tutti.datasets.scores.soundfonts import VARIABLE
from tutti.pipelines.build.arguments import output_root
from tutti.pipelines.build.looks import Input, Look, LookAt, Looks, Own, look_at, own_names
from tutti.pipelines.engine.code import code_digest, code_files

STATE = ".unchanged.json"
MAX_STATE_BYTES = 4 << 20  # 200 names of files and a summary take 20 KB
# Flags that change what is said or when, not what is built; with these, nothing is answered from memory.
FLAGS_THAT_BUILD_NOTHING = ("list", "dry_run", "download_only", "publish", "retry_status")
ACCESS = ("videos_per_hour", "cookies", "proxy", "ytdlp", "media_host", "section_above")  # to YouTube
FLAGS_WITHOUT_EFFECT_ON_OUTPUT = ("wait", "stall_timeout", "replace", *ACCESS, *FLAGS_THAT_BUILD_NOTHING)


def summary_if_unchanged(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> str | None:
    """Recall the summary of a build that has nothing to do, as a line of JSON; None: it must run, or be asked for."""
    start_s = time.perf_counter()
    asked_otherwise = any(getattr(arguments, flag) for flag in FLAGS_THAT_BUILD_NOTHING)
    if asked_otherwise or os.environ.get("TUTTI_CRASH_AT") or os.environ.get("TUTTI_FAIL_AT"):
        return None
    if any(flag.startswith("-") and not flag.startswith("--direct") for flag in beam_flags):  # let Beam look at them
        return None
    try:
        output = output_root(arguments).absolute()
        state = read_json(output / STATE, MAX_STATE_BYTES, what="what a build noted")
        current = (output / "current").readlink().name
        if (
            state["command"] != command_digest(arguments, tuple(state["code"]))
            or state["summary"]["version"] != current
        ):
            return None
        look = looker(arguments)
        seen = [(remembered_input(kind, path, arguments), digest) for kind, path, digest in state["inputs"]]
        seen.append((version_in(output), state["output"]))
        if any(look(wanted).digest != digest for wanted, digest in seen):
            return None
        work = {
            name: {"reused": part["reused"] + part["computed"], "computed": 0} for name, part in state["work"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, TuttiError):
        return None  # none, of another time, or an error to be told
    seconds = {"total": round(time.perf_counter() - start_s, 3)}
    return json.dumps({**state["summary"], "changed": False, "work": work, "seconds": seconds})


def save_state(arguments: argparse.Namespace, looks: Looks, output: Path, summary: dict[str, Any]) -> None:
    """Keep what `summary_if_unchanged` needs.

    Args:
        arguments: of the command.
        looks: at the inputs, before they were read.
        output: root, with the version published.
        summary: of the build.
    """
    state = {
        "command": command_digest(arguments, code_files()),
        "code": code_files(),
        "inputs": [[one.kind, _written(one), seen.digest] for one, seen in looks.of.items()],
        "output": looker(arguments)(version_in(output)).digest,
        "work": summary["work"],
        "summary": {name: value for name, value in summary.items() if name not in ("seconds", "work")},
    }
    write_file(output / STATE, json.dumps(state).encode(), durable=False)


def is_final(looks: Looks, manifest: ManifestContent) -> bool:
    """Whether the same command could find nothing else: all inputs known, nothing pending or unexpectedly lost."""
    counts = manifest["counts"]
    lost = any(source.get("pending") for source in counts["sources"].values()) or "incomplete" in manifest
    failed = any(reason.startswith("error:") for reason in counts["rejected"])
    return looks.settled and all(seen.digest is not None for seen in looks.of.values()) and not lost and not failed


def forget(output: Path) -> None:
    """Forget the last build of an output, so that the next one runs."""
    (output / STATE).unlink(missing_ok=True)


def looker(arguments: argparse.Namespace) -> LookAt:
    """Return the function that looks at the inputs of a command."""
    outputs = [output_root(arguments), *([arguments.publish] if arguments.publish else [])]
    cache = arguments.cache_dir or default_cache_folder()
    return lambda wanted: stamp_of(wanted, own_names(outputs, cache), arguments.credentials)


def stamp_of(wanted: Input, own: Own, credentials: Credentials) -> Look:
    """Digest how an input looks without reading it all; of a web mirror, its checksums."""
    if wanted.kind != "web":
        return look_at(wanted, own)
    from tutti.pipelines.acquisition.mirror_look import look_of_mirror  # it imports requests

    return Look(look_of_mirror(wanted.path, credentials))


def version_in(output: Path) -> Input:
    """Name the current version of an output root as an input."""
    return Input("files", str(output / "current"))


def remembered_input(kind: Any, path: str, arguments: argparse.Namespace) -> Input:
    """Read an input as `save_state` wrote it."""
    return Input(kind, arguments.mirror if kind == "web" else _path(path))


def command_digest(arguments: argparse.Namespace, files: tuple[str, ...]) -> str:
    """Digest all that decides a build, but for its inputs: flags, code files, libraries, Python, the current folder."""
    flags = {
        name: _plain(value) for name, value in vars(arguments).items() if name not in FLAGS_WITHOUT_EFFECT_ON_OUTPUT
    }
    soundfonts, here = _plain(os.environ.get(VARIABLE)), _plain(Path.cwd())
    return digest_of([flags, soundfonts, here, code_digest(files), _libraries(), platform.python_version()])


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [in_unicode(str(item)) for item in value]
    return None if value is None else in_unicode(str(value))


def _written(wanted: Input) -> str:
    """Write the path of an input as JSON can hold it: as digits behind a NUL, where its bytes are no UTF-8.

    An address is left out: it may hold a password, and the command line has it.
    """
    path = "" if wanted.kind == "web" else wanted.path
    return path if in_unicode(path) == path else f"\0{os.fsencode(path).hex()}"


def _path(written: str) -> str:
    """Undo `_written`."""
    return os.fsdecode(bytes.fromhex(written[1:])) if written.startswith("\0") else written


def _libraries() -> list[str]:
    described = [found.metadata for found in importlib.metadata.distributions()]  # each look at it parses the file
    return sorted(f"{metadata['Name']} {metadata['Version']}" for metadata in described)
