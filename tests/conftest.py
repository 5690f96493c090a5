"""Fixtures shared by all tests. `shared` is the folder of real recordings beside the checkout."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real archives and label files; tests that need it skip where it is absent."""
    if not (SHARED / "mirror" / "TRUTH.json").is_file():
        pytest.skip("needs the shared folder with real recordings beside the checkout")
    return SHARED
