"""One file per export format; the registry is this folder's listing (names that begin with `_` are shared parts).

A format is a module with

    USAGE                     a Python snippet that reads the export, for its README.md
    write(selection, folder)  fills an empty folder; equal selections give equal bytes
"""
