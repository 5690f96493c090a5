"""The digest of the code that decides a dataset."""

import functools
import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


CODE = ("datasets", "pipelines", "train/features")  # what decides a dataset


@functools.cache
def code_digest() -> str:
    """Hash our own files."""
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".json", ".html", ".safetensors"):
                digest.update(f"{path.relative_to(ROOT)}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
