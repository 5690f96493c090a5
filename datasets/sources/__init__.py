"""One file per corpus. Adding a corpus is adding a file; `datasets.source` says what it holds."""
