"""Shortages of the machine while it works on a clip: no property of the clip, so never remembered as one.

Each reason is one word of the vocabulary in manifests/README.md. A clip that is lost to one is `pending`: another
build tries again.
"""

import errno
from concurrent.futures import BrokenExecutor

# Reason -> what helps.
MACHINE_REASONS = {
    "out_of_memory": "free memory, raise `ulimit -v`, or use fewer workers",
    "out_of_time": "raise `ulimit -t`, or wait until the machine is less busy",
    "out_of_processes": "raise `ulimit -u` and `ulimit -v`, or end other processes",
    "decoder_killed": "free memory: most likely the system ended the decoder for want of it",
    "decoder_crashed": "look at the named file: its decoder ends without an answer",
}

INPUT_CHANGED = "input_changed"  # of a version, not of clips: files that changed while its build ran

# What libraries say in exceptions of no special type, and dying workers in their logs: torch, Python's threads, C++,
# and the loader of shared libraries.
_WORDS = {
    "can't start new thread": "out_of_processes",
    "pthread_create failed": "out_of_processes",
    "cannot fork": "out_of_processes",
    "resource temporarily unavailable": "out_of_processes",
    "memoryerror": "out_of_memory",
    "out of memory": "out_of_memory",
    "can't allocate memory": "out_of_memory",
    "cannot allocate memory": "out_of_memory",
    "bad_alloc": "out_of_memory",
    "failed to map segment": "out_of_memory",
}


class MachineError(Exception):
    """The machine, not the bytes, kept a clip from being worked on.

    Attributes:
        reason: one of MACHINE_REASONS.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        if reason not in MACHINE_REASONS:
            raise ValueError(f"reason {reason!r} is not one of {', '.join(MACHINE_REASONS)}")
        self.reason = reason

    def __reduce__(self) -> tuple[type["MachineError"], tuple[str, str]]:
        """Pickle both parts: it may be raised in another process."""
        return type(self), (str(self), self.reason)


def machine_reason(error: BaseException) -> str | None:
    """Classify an exception, by itself or its stated causes, as one of MACHINE_REASONS; None: as none of them."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        if (reason := _reason_of(link)) is not None:
            return reason
        seen.append(link)
        link = link.__cause__
    return None


def _reason_of(error: BaseException) -> str | None:
    match error:
        case MachineError():
            return error.reason
        case MemoryError():
            return "out_of_memory"
        case OSError() if error.errno == errno.ENOMEM:
            return "out_of_memory"
        case BlockingIOError() if error.errno == errno.EAGAIN and error.filename is None:  # of fork
            return "out_of_processes"
        case BrokenExecutor():  # a worker of a pool was ended
            return "out_of_memory"
        case RuntimeError() | ImportError() | SystemError():
            return scarcity_in(str(error))
    return None


def scarcity_in(text: str) -> str | None:
    """Find the reason of MACHINE_REASONS that a message or log tells of, if any."""
    lowered = text.lower()
    return next((reason for words, reason in _WORDS.items() if words in lowered), None)
