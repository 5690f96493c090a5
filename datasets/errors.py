"""Errors that end a build, each with the exit code that a caller can act on.

A message names the item (file, line, clip) and the remedy. What concerns one clip only is not
an error but a `Rejected` row.
"""

import signal


class TuttiError(Exception):
    """Base of the errors that a user can do something about."""

    exit_code = 1
    listing: tuple[str, ...] = ()  # lines below the message, where one line is not enough


class UsageError(TuttiError):
    """A wrong flag, recipe, configuration or input folder."""

    exit_code = 2


class IntegrityError(TuttiError):
    """Bytes are not what a checksum, a manifest or a file format says."""

    exit_code = 3


class CacheDamageError(IntegrityError):
    """A file of the cache was damaged or gone when it was needed; it is out of the way, so it can be made again."""


class DriftError(TuttiError):
    """A new version is further from the one before than the recipe allows."""

    exit_code = 4


class YieldError(TuttiError):
    """Too few clips came through, or too many stages failed unexpectedly."""

    exit_code = 5


class StorageError(TuttiError):
    """The disk is full, or a folder cannot be read or written (EX_IOERR)."""

    exit_code = 74


class NetworkError(StorageError):
    """A server does not answer, breaks off, or sends what it was not asked for; another time it may do better."""


class TryLaterError(TuttiError):
    """Another build holds the lock, or a server asks to come back later (EX_TEMPFAIL)."""

    exit_code = 75


class Stopped(BaseException):
    """A signal asks the command to end; `exit_code` is 128 + its number. No `except Exception` swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class BlockedError(TryLaterError):
    """A server refuses us, or sends a page for people where a file should be."""
