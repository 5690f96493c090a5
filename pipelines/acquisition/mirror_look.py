"""A quick look at a mirror of the web, for a build that may have nothing to do.

Beam and yt-dlp are not imported here; a build that has nothing to do is over before they would be.
"""

import contextlib
import hashlib
import threading

from tutti.datasets.addresses import Credentials
from tutti.datasets.errors import TuttiError
from tutti.datasets.record import Seconds
from tutti.pipelines.acquisition.http import HttpRules, get_small

LOOK_S: Seconds = 5.0  # a name that is not resolved, a server that says nothing or drips: nobody waits longer for that


def look_of_mirror(mirror: str, credentials: Credentials, limit_s: Seconds = LOOK_S) -> str | None:
    """Hash a mirror's SHA256SUMS; None where it has none, or does not answer in time.

    Args:
        mirror: http(s) address, without credentials.
        credentials: for its server.
        limit_s: for all of it.
    """
    found: list[str] = []

    def ask() -> None:
        rules = HttpRules(
            slots=None, attempts=1, connect_timeout_s=limit_s, read_timeout_s=limit_s, total_s=limit_s,
            longest_wait_s=0.0, credentials=credentials,
        )  # fmt: skip
        with contextlib.suppress(TuttiError, OSError):  # whoever needs it says more
            content = get_small(f"{mirror.rstrip('/')}/SHA256SUMS", rules=rules)
            if content is not None:
                found.append(hashlib.sha256(content).hexdigest())

    asked = threading.Thread(target=ask, daemon=True)  # names are resolved without a time limit
    asked.start()
    asked.join(limit_s)
    return found[0] if found else None
