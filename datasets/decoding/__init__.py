"""Decoders: from the bytes of a file to blocks of samples, placed by the clock of its container."""
