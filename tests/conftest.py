"""Fixtures shared by all tests: the folder of real recordings, the sample mirror, built datasets."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tutti.datasets.errors import UsageError
from tutti.datasets.sample import SampleSize, write_sample_mirror
from tutti.datasets.scores.soundfonts import Soundfont, find_soundfonts

if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several workers would wait for each other: five times slower
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as shells start what runs in the background, children included
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# Enough of everything for every stage to have work, and every planted defect.
TINY = SampleSize(
    train_songs_per_class=2, train_parts=2, test_songs=6, test_excerpts=2, openmic_tracks=16, videos_per_class=1,
    foreign_rows=20, slakh_songs=0, own_songs=0, jamendo_tracks=0,
)  # fmt: skip

Build = Callable[..., dict[str, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: with two workers, the last of them should not be left alone at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real archives and label files; tests that need it skip where it is absent."""
    if not (SHARED / "mirror" / "TRUTH.json").is_file():
        pytest.skip("needs the shared folder with real recordings beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the whole run, also where several pytest workers share it."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _own_cache(session_folder: Path) -> Iterator[None]:
    """No test writes into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE_DIR", str(session_folder / "default-cache"))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks of tests are too small to be faster on several."""
    import torch  # most tests need none

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache for this test alone: hot copies of its commands lie here."""
    monkeypatch.setenv("TUTTI_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def installed_font() -> Soundfont:
    """The first soundfont of this machine; tests that render with it skip where it or FluidSynth is absent."""
    if reason := no_fluidsynth():
        pytest.skip(reason)
    return find_soundfonts()[0]


@pytest.fixture
def server() -> Iterator[Any]:
    """A scriptable server on loopback; modules whose server serves something have their own."""
    from server import Server

    with Server() as running:
        yield running


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Where a download grows."""
    return tmp_path / "incoming" / "a.part"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the http client would have slept."""
    seconds: list[float] = []
    monkeypatch.setattr("tutti.pipelines.acquisition.http.time.sleep", seconds.append)
    return seconds


@pytest.fixture(scope="module")
def misbehaving_decoders() -> Iterator[None]:
    """Decoder processes that can misbehave on demand, and none of them after the module's tests."""
    import misbehaving_child

    from tutti.pipelines.decoding import process, sandbox

    sandbox.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "CHILD", misbehaving_child.COMMAND)
        patch.setenv("PYTHONPATH", str(Path(misbehaving_child.__file__).parent))
        yield
    sandbox.close()


def no_fluidsynth() -> str:
    """Why nothing can be rendered here; empty where it can."""
    from tutti.pipelines.render import synthesizer

    try:
        synthesizer.version()
        find_soundfonts()
    except UsageError as error:
        return str(error)
    return ""


def once(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """`folder/name`, made by the first worker that asks; the others wait."""
    target, done = folder / name, folder / f"{name}.done"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(target)
            done.touch()
    return target


def run_build(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m pipelines.build` as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "pipelines.build", *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=600,
    )


def built(*arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """The summary of a build that must succeed."""
    result = run_build(*arguments, env=env)
    assert result.returncode == 0, result.stderr
    summary: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return summary


@pytest.fixture(scope="session")
def sample_mirror(session_folder: Path) -> Path:
    """A tiny synthesized mirror in the upstream layouts, with its planted defects."""
    return once(session_folder, "mirror", lambda root: write_sample_mirror(root, size=TINY))


@pytest.fixture(scope="session")
def sample_build(session_folder: Path, sample_mirror: Path) -> Path:
    """The output root of `ultimate`, built from the tiny mirror; read it, do not write to it."""

    def make(output: Path) -> None:
        built(
            "--dataset", "ultimate", "--mirror", str(sample_mirror), "--embedder", "none",
            "--output", str(output), "--cache-dir", str(session_folder / "sample-cache"),
        )  # fmt: skip

    return once(session_folder, "sample-build", make)


@pytest.fixture(scope="session")
def songs_build(session_folder: Path) -> Path:
    """Twelve songs of one's own in `songs`, built into `out` with `cache`; read it, do not write to it."""
    from own_songs import Mine

    def make(folder: Path) -> None:
        folder.mkdir()
        Mine(folder / "songs", folder, songs=12).build()

    return once(session_folder, "songs-build", make)


@pytest.fixture(scope="session")
def mirror_build(session_folder: Path, shared: Path) -> Path:
    """The output root of `ultimate`, built from the shared mirror of real recordings."""

    def make(output: Path) -> None:
        built(
            "--dataset", "ultimate", "--mirror", str(shared / "mirror"), "--embedder", "none",
            "--output", str(output), "--cache-dir", str(session_folder / "mirror-cache"),
        )  # fmt: skip

    return once(session_folder, "mirror-build", make)
