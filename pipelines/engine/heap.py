"""Memory of a build's processes: large buffers go back to the system once they are free.

By default glibc raises the size from which it does so to the largest buffer that it saw, each thread has a heap of
its own, and Arrow keeps what it had: memory then grows twice as much with the number of clips.
"""

import atexit
import ctypes
import functools
import gc
import os
import sys

# Variable -> number of the option for mallopt, from <malloc.h>, and value.
SETTINGS = {
    "MALLOC_ARENA_MAX": (-8, 1),
    # Bytes: above the arrays that a clip's features take and give back. At 1 MiB and the 128 KiB that glibc would trim
    # to, embedding touched 80 MB of new pages for every clip, which took twice the time of its arithmetic.
    "MALLOC_MMAP_THRESHOLD_": (-3, 4 << 20),
    "MALLOC_TRIM_THRESHOLD_": (-1, 16 << 20),
}
ARROW = "ARROW_DEFAULT_MEMORY_POOL"
BEAM_WORKER = "apache_beam.runners.worker.sdk_worker_main"


def configure_allocator() -> None:
    """Make glibc and Arrow return freed memory, here and in child processes; what the user has set stays.

    Call it before threads start.
    """
    import pyarrow  # a build that has nothing to do needs none

    if ARROW not in os.environ:
        os.environ[ARROW] = "system"
        pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
    for name, (option, value) in SETTINGS.items():
        if name not in os.environ:
            os.environ[name] = str(value)
            if mallopt is not None:
                mallopt(option, value)


@functools.cache
def reserve_blas() -> None:
    """Take the work space of numpy's and SciPy's OpenBLAS now, while there is memory.

    One that gets none ends the process by `exit(1)`, after a line of its own, wherever it is first needed. What needs
    memory later, an import or an array, fails in words.
    """
    import numpy as np
    from scipy.linalg.blas import dgemm

    square = np.ones((128, 128))  # smaller ones may need no work space
    np.dot(square, square)
    dgemm(1.0, square, square)


@functools.cache
def skip_final_gc() -> None:
    """Freeze all objects at exit, so that the interpreter skips its last collection, which takes half a second."""
    atexit.register(gc.freeze)


def is_beam_worker() -> bool:
    """Whether this is a process that Beam's runner started; it ends them one after the other."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == BEAM_WORKER


def decoder_environment() -> dict[str, str]:
    """Make the environment of decoders: what Python and the loader need, so that no secret of ours is in their memory.

    Without the sizes above: they need large buffers again and again, and getting those anew each time costs time.
    """
    names = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV")
    kinds = ("PYTHON", "LD_", "DYLD_", "LC_", "MALLOC_")
    without = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    known = {name: value for name, value in os.environ.items() if name in names or name.startswith(kinds)}
    return {name: value for name, value in known.items() if name not in without}
