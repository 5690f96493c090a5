"""A shard opened with care: whatever lies there, it is read within bounds or is an IntegrityError that names it.

    with reading(path): shard, copy = open_parquet(path)

A shard may be damaged, or match its manifest and still be made to harm. The footer is read
within limits, and the headers of all pages say beforehand how much memory they take (datasets/parquet_pages.py).
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tutti.datasets.bounded import regular_status
from tutti.datasets.copies import Copy, Memory, copy_of
from tutti.datasets.errors import IntegrityError
from tutti.datasets.parquet_pages import MAX_FOOTER_BYTES, MAX_ROW_GROUPS, expansion_problem, read_footer

# Decoded, a shard takes what it takes on disk and little more: its audio is compressed already.
_EXPANSION, _EXPANSION_BYTES = 4, 1 << 26

_BOUNDED = "parquet 1"  # the claim that a copy can be read within bounds
# What says that the file is not there or is no file; other refusals of the system are the machine's.
_OF_THE_FILE = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)


@contextlib.contextmanager
def reading(path: Path, what: str = "not a readable shard") -> Iterator[None]:
    """Convert whatever reading malformed bytes raises within the block into one error that names the file.

    Raises:
        IntegrityError: as said.
        OSError: the system refuses: no descriptors, no permission.
    """
    try:
        yield
    except IntegrityError:
        raise
    except OSError as error:
        if error.errno not in _OF_THE_FILE:
            raise
        raise _unreadable(path, what, error) from error
    except (pa.ArrowException, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise _unreadable(path, what, error) from error
    except (MemoryError, RecursionError) as error:
        raise _unreadable(path, what, error) from error


def _unreadable(path: Path, what: str, error: BaseException) -> IntegrityError:
    words = str(error).partition("\n")[0][:200] or type(error).__name__
    return IntegrityError(f"{path}: {what} ({words}); run pipelines.verify")


def open_parquet(path: Path, known: Copy | None = None) -> tuple[pq.ParquetFile, Copy]:
    """Open a Parquet file that can be read within bounds, mapped; and the copy that it is.

    Args:
        path: of the file.
        known: a copy that was opened before, whose pages need no second look.

    Raises:
        IntegrityError: there is none.
        OSError: the system refuses.
    """
    with reading(path):
        regular_status(path)  # a pipe would wait for ever
        memory = Memory()
        start = memory.start()
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(pa.memory_map(os.fsencode(path)))
            descriptor = source.fileno()
            copy = copy_of(os.fstat(descriptor))
            if copy != known and not memory.holds(copy, _BOUNDED):
                most = _EXPANSION * copy.num_bytes + _EXPANSION_BYTES
                if problem := expansion_problem(descriptor, read_footer(descriptor), max_bytes=most):
                    raise ValueError(problem)
                memory.note(copy, _BOUNDED, start)
            shard = pq.ParquetFile(
                source,
                pre_buffer=False,
                thrift_string_size_limit=MAX_FOOTER_BYTES,
                thrift_container_size_limit=MAX_ROW_GROUPS,
            )
            stack.pop_all()  # the file stays open as long as the shard is used
        return shard, copy
