"""The end of the processor time that the user lets a process have (`ulimit -t`): an error before the system's end."""

import contextlib
import resource
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from tutti.datasets.errors import Stopped, TryLaterError

SPARE_S = 2  # between our word and the end: enough to clear away what is half done


class TimeUp(Stopped):
    """The processor time that the user lets this process have is used up."""

    def __init__(self, given_s: int) -> None:
        super().__init__(signal.SIGXCPU)
        self.exit_code = TryLaterError.exit_code
        self._given_s = given_s

    def __str__(self) -> str:
        return (
            f"the processor time of this process is used up ({self._given_s} s); raise `ulimit -t`, then run it "
            "again: it goes on where it was"
        )


@contextlib.contextmanager
def told_when_it_is_up() -> Iterator[None]:
    """Raise `TimeUp` in the main thread two seconds before the system would end this process.

    Processes that it starts have two seconds less as well.

    Raises:
        TimeUp: the time is up.
    """
    soft_s, hard_s = resource.getrlimit(resource.RLIMIT_CPU)
    limits = [limit for limit in (soft_s, hard_s) if limit != resource.RLIM_INFINITY]
    if not limits or threading.current_thread() is not threading.main_thread():
        yield
        return
    given_s = min(limits)

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # it comes again every second
        raise TimeUp(given_s)

    before = signal.signal(signal.SIGXCPU, stop)
    resource.setrlimit(resource.RLIMIT_CPU, (max(1, given_s - SPARE_S), hard_s))
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGXCPU) is stop:  # else the process is about to end
            signal.signal(signal.SIGXCPU, before)
            resource.setrlimit(resource.RLIMIT_CPU, (soft_s, hard_s))
