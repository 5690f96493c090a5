"""Make again, within one build, whatever of the cache is found damaged on the way, however much that is.

A build reads what it needs once, and trusts that what lies in the cache can be read; so sound caches cost nothing.
Where that fails, the damaged file is put aside and the work begins once more with a wary cache: each blob is hashed
before it counts as there, so every stage finds what it lacks and makes it again, all in this one pass.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from tutti.datasets.errors import CacheDamageError
from tutti.datasets.streams import note
from tutti.pipelines.build.plan import Build

MORE_PASSES = 2  # the second for what rots meanwhile; a disk that damages what is written to it is beyond us

Answer = TypeVar("Answer")


def heal(build: Build, work: Callable[[Build], Answer]) -> tuple[Build, Answer]:
    """Run the work of a build, again with a wary cache where damage is met.

    Returns:
        The build that was carried out, and the answer of the work.

    Raises:
        CacheDamageError: damage was met in every pass.
    """
    for number in range(1, MORE_PASSES + 1):
        try:
            return build, work(build)
        except CacheDamageError as error:
            note(f"{str(error).partition(';')[0]}; this build makes it again, with all others that are damaged")
            build = _wary(build, number)
    try:
        return build, work(build)
    except CacheDamageError as error:
        raise CacheDamageError(f"{error}; damage was met {number + 1} times in a row: check the disk") from error


def _wary(build: Build, number: int) -> Build:
    """Prepare the same build for another pass, which begins with nothing staged and counts its own progress."""
    output = replace(build.output, run=f"{build.output.run}-{number}")
    shutil.rmtree(output.staging, ignore_errors=True)
    output.staging.mkdir()
    output.progress.mkdir(parents=True)
    return replace(build, output=output, cache=replace(build.cache, wary=True))
