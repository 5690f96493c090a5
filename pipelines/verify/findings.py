"""Findings of `verify`, the place of a manifest, and the check of manifest.json itself.

What each check leans on: the version folder's name is the beginning of the sha256 of
manifest.json, and manifest.json holds the sha256 of every other file. Nothing is rewritten here.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tutti.datasets.manifest import (
    Manifest,
    canonical_json,
    digest_of,
    file_sha256,
    manifest_path,
    read_content,
    read_manifest,
    within,
)

MANIFEST = "manifest/manifest.json"
BOM = b"\xef\xbb\xbf"

VERSION_NAME = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """One thing that is wrong with a dataset version."""

    path: str  # within the version folder; of an upstream file: `source/name`
    line: int = 0  # of a file of clip rows, from 1; 0: the file as a whole
    kind: str = "corrupt"  # missing, stray, corrupt, swapped, tampered, container drift, inconsistent
    detail: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.kind}: {self.detail}" if self.detail else f"{place}: {self.kind}"


@dataclass(frozen=True)
class PublishedManifest(Manifest):
    """A manifest without its dataset: `manifest.json` beside `clips/`, as under `manifests/`."""

    @property
    def version(self) -> str:
        """First 12 hex digits of the sha256 of manifest.json."""
        return file_sha256(self.folder / "manifest.json")[:12]

    def path(self, relative: str) -> Path:
        """Return where a file of this version lies or would lie.

        Raises:
            IntegrityError: no version has such a file, or a link leads out of the folder.
        """
        super().path(relative)
        return within(self.folder, relative.removeprefix("manifest/"))


def open_manifest(path: Path) -> Manifest:
    """Open the manifest of an output root, a version folder, a folder with manifest.json, or of that file.

    Raises:
        UsageError: there is none.
        IntegrityError: it is damaged or of another schema version.
    """
    folder = path.parent if path.name == "manifest.json" else path
    if (folder / "manifest.json").is_file() and not manifest_path(folder).is_file():
        return PublishedManifest(folder.resolve(), read_content(within(folder, "manifest.json")))
    return read_manifest(folder)


def expected_version(manifest: Manifest) -> str | None:
    """Return the version that the folder's name promises; None where its name is no version."""
    folder = manifest.folder
    return folder.name if folder.parent.name == "versions" and VERSION_NAME.fullmatch(folder.name) else None


def check_manifest_json(manifest: Manifest) -> list[Finding]:
    """Check that manifest.json is what its folder's name promises; without one, that it is canonical."""
    expected, found = expected_version(manifest), manifest.version
    if expected == found:
        return []
    if expected is not None:
        detail = f"its sha256 begins with {found}, its folder is {expected}; nothing else was checked"
        return [
            Finding(MANIFEST, 0, "corrupt", f"{detail}: restore it from a copy, or remove that folder and build again")
        ]
    found_problems = []  # its form was checked when it was read
    content = manifest.path(MANIFEST).read_bytes()
    if content != (canonical_json(manifest.content) + "\n").encode():
        found_problems.append(Finding(MANIFEST, 0, "tampered", _how_not_canonical(content)))
    recipe = manifest.content.get("recipe")
    if digest_of(recipe) != manifest.content.get("recipe_sha256"):
        found_problems.append(Finding(MANIFEST, 0, "inconsistent", "recipe_sha256 is not the digest of its recipe"))
    return found_problems


def _how_not_canonical(content: bytes) -> str:
    if content.startswith(BOM):
        return "not canonical JSON: it begins with a byte order mark"
    if b"\r" in content:
        return "not canonical JSON: it ends lines with CR LF"
    return "not canonical JSON: keys sorted, no spaces, one line feed at the end"
