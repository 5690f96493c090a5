"""The error of a file that cannot be decoded, apart from the decoders: importing those costs 75 MiB."""


class DecodeError(Exception):
    """The bytes are no audio that the pinned decoders read; the message says why."""
