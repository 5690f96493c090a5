"""Write the lock files anew: what pyproject.toml asks for, as exact versions, with the digests of their files.

    make lock                            what fits keeps its version; what is new gets the newest
    make lock UPGRADE="numpy pyarrow"    these get the newest, too
    make lock UPGRADE=all                everything does

constraints.txt names every version once and says what for. requirements.lock names the sha256 of every file that pip
may install: wheels for CPython 3.11 on Linux and macOS; requirements-source.lock that of the sources where there is no
wheel. Torch has no digest: its build differs by machine, and TORCH_FLAGS choose it. Versions and digests are those of
the package index that pip is set up with.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pip._internal.commands import create_command
from pip._internal.index.collector import parse_links
from pip._internal.models.link import Link
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.tags import Tag
from pip._vendor.packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from pip._vendor.packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
WHEELS, SOURCES = ROOT / "requirements.lock", ROOT / "requirements-source.lock"
UNLOCKED = "torch"
OF_TORCH = re.compile(r"(nvidia|cuda|triton)\b")  # what a CUDA build brings along, pinned by torch itself
PLATFORMS = re.compile(r"any|manylinux\w+_(x86_64|aarch64)|macosx_\w+_(x86_64|arm64|universal2)")
TITLE = (
    "# Versions that resolve and were measured together on Python 3.11, and all that they need: exactly what\n"
    "# `make setup` installs. pyproject.toml has the ranges that tutti works with. Written by `make lock`."
)


@dataclass(frozen=True)
class Pin:
    """One package at one version."""

    name: str
    version: str
    why: str  # the reason in pyproject.toml, or what needs it


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--upgrade", nargs="*", default=[], metavar="NAME", help="packages to get the newest of; all")
    upgrade = {canonicalize_name(name) for name in parser.parse_args().upgrade}
    keep = {} if "all" in upgrade else {k: v for k, v in pins_of(CONSTRAINTS).items() if k not in upgrade}
    pins = resolved(reasons(), keep)
    wheels, sources = hashes_of(pins)
    WHEELS.write_text(lock_text(pins, wheels), encoding="utf-8")
    SOURCES.write_text(lock_text(pins, sources), encoding="utf-8")
    CONSTRAINTS.write_text(constraints_text(pins), encoding="utf-8")
    print(f"{len(pins)} packages, {sum(map(len, (*wheels.values(), *sources.values())))} files; look at git diff")


def pins_of(path: Path) -> dict[str, str]:
    """Canonical name -> version of a file of pins."""
    lines = (line.split("#")[0].split("\\")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    pins = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in pins}


def reasons() -> dict[str, str]:
    """Every requirement of pyproject.toml, and the comment beside it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    wanted = [*project["dependencies"], *(one for many in project["optional-dependencies"].values() for one in many)]
    beside = dict(re.findall(r'^ +"([^"]+)",(?:  # (.*))?$', text, re.M))
    return {requirement: beside[requirement] for requirement in wanted}


def resolved(asked: Mapping[str, str], keep: Mapping[str, str]) -> list[Pin]:
    """All packages that requirements come to, by name; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "held.txt"
        held.write_text("".join(f"{name}=={version}\n" for name, version in keep.items()), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
        done = subprocess.run(
            [*command, "--report", "-", "--constraint", held, *asked], stdout=subprocess.PIPE, check=False
        )
    if done.returncode:
        sys.exit('these do not fit together: see above; make lock UPGRADE="NAME ..." lets these change their versions')
    found = [item["metadata"] for item in json.loads(done.stdout)["install"]]
    why: dict[str, str] = {}
    for text, comment in asked.items():  # one that an extra asks for once more keeps its first reason
        why.setdefault(canonicalize_name(Requirement(text).name), comment)
    needed_by = defaultdict(set)
    for metadata in found:
        for text in metadata.get("requires_dist", []):
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed_by[canonicalize_name(requirement.name)].add(metadata["name"])
    pins = []
    for metadata in sorted(found, key=lambda metadata: canonicalize_name(metadata["name"])):
        name = canonicalize_name(metadata["name"])
        if not OF_TORCH.match(name):
            reason = why.get(name) or f"needed by {', '.join(sorted(needed_by[name], key=str.lower)) or 'an extra'}"
            pins.append(Pin(metadata["name"], metadata["version"].split("+")[0], reason))
    return pins


def hashes_of(pins: Iterable[Pin]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Canonical name -> sha256 of its wheels that may be installed; and of the sources of packages without any."""
    command = create_command("index")
    options, _ = command.parse_args(["versions", "none"])
    with_wheels: dict[str, list[str]] = {}
    sources_only: dict[str, list[str]] = {}
    with command._build_session(options) as session:
        finder = command._build_package_finder(options, session)
        for pin in pins:
            name = canonicalize_name(pin.name)
            if name == UNLOCKED:
                continue
            wheels, sources = set(), set()
            for url in finder.search_scope.get_index_urls_locations(pin.name):
                page = finder._link_collector.fetch_response(Link(url))
                for link in [] if page is None else parse_links(page):
                    sha256 = link.as_hashes()._allowed.get("sha256", [None])[0]
                    if sha256 and (kind := kind_of(link.filename, pin)) is not None:
                        (wheels if kind == "wheel" else sources).add(sha256)
            if wheels:
                with_wheels[name] = sorted(wheels)
            elif sources:
                sources_only[name] = sorted(sources)
            else:
                sys.exit(f"{pin.name}=={pin.version}: the index tells no digest of a file for Python 3.11")
    return with_wheels, sources_only


def kind_of(filename: str, pin: Pin) -> str | None:
    """Whether a file is a wheel of this version that may be installed, its source, or neither."""
    wanted = (canonicalize_name(pin.name), Version(pin.version))
    try:
        if filename.endswith(".whl"):
            name, version, _, tags = parse_wheel_filename(filename)
            return "wheel" if (name, version) == wanted and any(map(is_ours, tags)) else None
        name, version = parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):  # of old times
        return None
    return "source" if (name, version) == wanted else None


def is_ours(tag: Tag) -> bool:
    """Whether CPython 3.11 on Linux or macOS installs a wheel with this tag."""
    stable = tag.abi == "abi3" and re.fullmatch(r"cp3\d+", tag.interpreter) and int(tag.interpreter[3:]) <= 11
    fits = stable or (tag.interpreter, tag.abi) == ("cp311", "cp311")
    fits = fits or (tag.abi == "none" and tag.interpreter in ("py3", "py311", "cp311"))
    return bool(fits and PLATFORMS.fullmatch(tag.platform))


def lock_text(pins: Iterable[Pin], files: Mapping[str, list[str]]) -> str:
    """A lock file: `pip install --require-hashes --no-deps -r`."""
    lines = ["# Written by `make lock`; constraints.txt says what for. Not torch, whose build differs by machine."]
    for pin in pins:
        if digests := files.get(canonicalize_name(pin.name)):
            lines += [f"{pin.name}=={pin.version} \\", *(f"    --hash=sha256:{one} \\" for one in digests[:-1])]
            lines.append(f"    --hash=sha256:{digests[-1]}")
    return "\n".join(lines) + "\n"


def constraints_text(pins: Iterable[Pin]) -> str:
    """Every pin with its reason."""
    return "\n".join([TITLE, *(f"{pin.name}=={pin.version}  # {pin.why}" for pin in pins)]) + "\n"


if __name__ == "__main__":
    main()
