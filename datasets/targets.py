"""Files that commands write at the user's choice: one of a command's own may be replaced, no other.

check_targets({Path("timeline.csv"): lambda head: head.startswith(b"path,")}, "--csv")
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tutti.datasets.errors import UsageError

IsOurs = Callable[[bytes], bool]  # told the first bytes of a file

PICTURE = {"Software": "tutti"}  # metadata of our PNGs; no version of a library, so that equal pictures are equal bytes

_HEAD_BYTES = 4_096
_PNG = b"\x89PNG\r\n\x1a\n"


def check_targets(targets: Mapping[Path, IsOurs], flag: str) -> None:
    """Make sure that files may be written; before the work, so that none is lost.

    Args:
        targets: what will be written, and how a file that the command wrote before is told.
        flag: where the user chose the place.

    Raises:
        UsageError: something else is there; the message names it.
    """
    for path, is_ours in targets.items():
        if os.path.lexists(path) and not (path.is_file() and is_ours(head_of(path))):
            raise UsageError(f"{path}: is there, and this command did not write it; choose another {flag}")


def head_of(path: Path) -> bytes:
    """Read the first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def is_our_picture(head: bytes) -> bool:
    """Whether a file begins as a PNG of ours."""
    return head.startswith(_PNG) and b"tEXtSoftware\0tutti" in head
