"""Files below a folder, found by their paths as people write them."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from tutti.datasets.printable import in_unicode
from tutti.datasets.user_text import nfc


class Finder:
    r"""Finds files below a folder by name.

    A name is first looked for as it stands, then in any Unicode form (a Mac writes `é` as two characters), with bytes
    that are no UTF-8 written out (`caf\xe9.wav`), and at last with `\` between folders, as Windows has it.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, dict[str, str]] = {}  # folder below root -> name as compared -> name on the disk

    def find(self, path: str) -> str | None:
        """Find a file; return its POSIX path below the folder, as on the disk; None: there is none."""
        for wanted in (path, path.replace("\\", "/")) if "\\" in path else (path,):
            if self._is_file(wanted):
                return str(PurePosixPath(wanted))
            found = self._follow(PurePosixPath(wanted).parts, _compared)
            if found is not None and self._is_file(found):
                return found
        return None

    def nearly(self, path: str) -> str | None:
        """Find a file whose path differs in capitals only; for a message."""
        return self._follow(PurePosixPath(path.replace("\\", "/")).parts, _without_case)

    def _is_file(self, path: str) -> bool:
        return "\0" not in path and (self._root / path).is_file()

    def _follow(self, parts: Iterable[str], compared: Callable[[str], str]) -> str | None:
        below = ""
        for part in parts:
            listed = self._listed(below)
            name = listed.get(_compared(part))
            if name is None and compared is not _compared:
                wanted = compared(part)
                name = next((found for known, found in listed.items() if compared(known) == wanted), None)
            if name is None:
                return None
            below = os.path.join(below, name)
        return below or None

    def _listed(self, below: str) -> dict[str, str]:
        """List a folder once; of names that are compared alike the first, in the order of their characters, counts."""
        if below not in self._names:
            try:
                names = sorted(os.listdir(self._root / below), reverse=True)
            except OSError:  # no folder, or none that may be read
                names = []
            self._names[below] = {_compared(name): name for name in names}
        return self._names[below]


def _compared(name: str) -> str:
    return nfc(in_unicode(name))


def _without_case(name: str) -> str:
    return _compared(name).casefold()
