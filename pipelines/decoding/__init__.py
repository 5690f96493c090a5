"""Decoding of untrusted bytes in confined processes, and normalization of the samples."""
