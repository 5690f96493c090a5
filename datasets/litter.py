"""Names of what systems leave in folders: beside every file, in every folder, never anything of the user's."""

from collections.abc import Iterable

from tutti.datasets.printable import in_unicode

SHOWN = 3  # files that are named
_FILES = frozenset((".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", ".localized"))
_FOLDERS = frozenset((
    "__macosx", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd", ".thumbnails", "@eadir", "$recycle.bin",
    "system volume information", "lost+found",
))  # fmt: skip


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is a system's: AppleDouble (`._x`), Finder, Windows, a NAS."""
    lowered = name.lower()
    return lowered.startswith("._") or lowered in _FILES or lowered in _FOLDERS


def litter_note(paths: Iterable[str]) -> tuple[str, ...]:
    """Describe what a source passed over, by the paths of the files, for people; empty where there is nothing."""
    found = sorted(set(map(in_unicode, paths)))
    some = ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
    words = f"passed over {len(found):,} files that macOS, Windows or a NAS left behind: {some}"
    return (words,) if found else ()
