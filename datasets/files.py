"""Files that are either whole or not there: write beside the target, sync, rename."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A binary stream whose content appears at `path` at once when the block ends without error.

    Args:
        path: the target; its folder is created.
        durable: survive a power cut (fsync). Derived files that a digest guards can do without.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a whole file atomically."""
    with atomic_file(path, durable=durable) as stream:
        stream.write(content)
