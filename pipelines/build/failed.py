"""The manifest of a build that was refused, kept in `last-failed/` of the output until a build succeeds or fails anew.

This lists every clip that was not kept, and why:

python -m pipelines.info build/NAME/last-failed --rejects
"""

import contextlib
import shlex
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tutti.datasets.errors import TuttiError
from tutti.datasets.files import temporary_folder
from tutti.datasets.manifest import ClipRow, Manifest
from tutti.datasets.printable import in_unicode
from tutti.datasets.streams import note
from tutti.pipelines.build.output import LAST_FAILED, Output
from tutti.pipelines.rows import reject_line

SHOWN = 10  # rejected clips that are named on stderr
SHOWN_CHARACTERS = 300  # of one


def first_rejects(rows: Iterable[ClipRow], most: int = SHOWN) -> Iterator[ClipRow]:
    """Yield some rows that were not kept: the first of each reason, then the next in order, no more than `most`."""
    seen: set[str] = set()
    heads: list[ClipRow] = []
    rest: list[ClipRow] = []
    for row in rows:
        if row["status"] == "kept":
            continue
        if row["reason"] not in seen:
            seen.add(row["reason"])
            heads.append(row)
        elif len(rest) < most:
            rest.append(row)
    yield from [*heads, *rest][:most]


@contextlib.contextmanager
def kept_if_refused(output: Output, staged: Manifest) -> Iterator[None]:
    """Keep the manifest of a staged version where the block refuses it, and list its first rejects below the error."""
    try:
        yield
    except TuttiError as error:
        with contextlib.suppress(OSError, ValueError, KeyError, TuttiError):  # the refusal itself counts
            source = str(error).partition(":")[0]
            error.listing = (*error.listing, *_listing(output, staged, source))
        raise


def _listing(output: Output, staged: Manifest, source: str) -> Iterator[str]:
    """Yield the first rejects, of one source if the error speaks of it, and the command that shows all."""
    counts = staged.content["counts"]
    of_source = counts["sources"].get(source)
    lost = sum((counts["rejected"] if of_source is None else of_source["reasons"]).values())
    rows = (row for row in staged.clip_rows() if of_source is None or row["source"] == source)
    shown = list(first_rejects(rows))
    for row in shown:
        line = reject_line(row)
        yield line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 3]}..."
    if lost > len(shown):
        yield f"and {lost - len(shown):,} more"
    try:
        keep(output, staged)
    except OSError as error:
        yield f"their rows could not be kept ({error.strerror})"
        return
    place = shlex.quote(in_unicode(str(output.root / LAST_FAILED)))
    yield f"all rows: python -m pipelines.info {place} --rejects"


def keep(output: Output, staged: Manifest) -> None:
    """Copy the manifest and rows of a staged version to `last-failed/`, in place of an earlier one.

    Raises:
        OSError: it cannot be written; what was there is left, or gone.
    """
    with temporary_folder(output.root, LAST_FAILED) as folder:
        shutil.copytree(staged.folder / "manifest", folder / "manifest")
        remove_failed(output)
        folder.rename(output.root / LAST_FAILED)


def remove_failed(output: Output) -> None:
    """Remove what an earlier build that was refused has left, as a build that succeeds does."""
    folder: Path = output.root / LAST_FAILED
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        note(f"{folder}: is of an earlier build and could not be removed")
