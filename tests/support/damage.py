"""A dataset version to damage, and ways to damage it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tutti.datasets.manifest import canonical_json, file_sha256, manifest_path, version_folder


def sealed_copy(build: Path, root: Path) -> Path:
    """A copy of a build's version, as an output root has it, whose manifest also lists the derived files."""
    version = shutil.copytree(version_folder(build), root / "versions" / "new")
    edit_manifest(version, list_files)
    return named(version)


def list_files(content: dict) -> None:
    """Nothing to do; `edit_manifest` fills in what lies beside the manifest."""


def edit_manifest(version: Path, change: Callable[[dict], None]) -> None:
    """Change manifest.json, canonical as before; `files` is brought up to date."""
    path = manifest_path(version)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["files"] = [
        {"path": name, "num_bytes": (version / name).stat().st_size, "sha256": file_sha256(version / name)}
        for name in ("README.md",)
        if (version / name).is_file()
    ]
    change(content)
    path.write_text(canonical_json(content) + "\n", encoding="utf-8")


def named(version: Path) -> Path:
    """The version under the name that its manifest gives it, with `current` pointing there."""
    target = version.with_name(file_sha256(manifest_path(version))[:12])
    version.rename(target)
    (target.parent.parent / "current").symlink_to(Path("versions") / target.name)
    return target


def flip(path: Path, bit: int) -> None:
    """Flip one bit, in place."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def swap(one: Path, other: Path) -> None:
    """Exchange the contents of two files."""
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
