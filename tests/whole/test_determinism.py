"""Same inputs and recipe, same digests: for any runner, worker count, hash seed and archive order."""

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, built
from mirrors import shuffled_mirror

from tutti.datasets.manifest import read_manifest

DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"


@pytest.fixture(scope="module")
def reference(sample_build: Path) -> dict[str, Any]:
    return fingerprint(sample_build)


@pytest.fixture
def rebuilt(sample_mirror: Path, tmp_path: Path) -> Iterator[Any]:
    """Builds from nothing: an empty cache, an empty output."""

    def rebuild(*flags: str, mirror: Path | str = sample_mirror, env: dict[str, str] | None = None) -> dict[str, Any]:
        output = tmp_path / "out"
        places = ("--mirror", str(mirror), "--output", str(output), "--cache-dir", str(tmp_path / "cache"))
        built("--dataset", "ultimate", "--embedder", "none", *places, *flags, env=env)
        return fingerprint(output)

    yield rebuild
    shutil.rmtree(tmp_path, ignore_errors=True)


def fingerprint(output: Path) -> dict[str, Any]:
    """Everything about a dataset that must not depend on how it was built."""
    content = read_manifest(output).content
    return {
        "root digest": content["root_digest"],
        "split digest": content["split_digest"],
        "shard files": {shard["path"]: shard["sha256"] for shard in content["shards"]},
        "rows": {bucket["path"]: bucket["sha256"] for bucket in content["clips"]},
    }


def test_hash_seed_and_time_zone_do_not_matter(rebuilt: Any, reference: dict[str, Any]) -> None:
    assert rebuilt(env={"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}) == reference


def test_one_worker_process_gives_the_same(rebuilt: Any, reference: dict[str, Any]) -> None:
    one = rebuilt("--direct_running_mode=multi_processing", "--direct_num_workers=1", env={"PYTHONHASHSEED": "0"})
    assert one == reference


def test_two_worker_processes_give_the_same(rebuilt: Any, reference: dict[str, Any]) -> None:
    two = rebuilt("--direct-running-mode", "multi_processing", "--direct-num-workers", "2", env={"PYTHONHASHSEED": "1"})
    assert two == reference


def test_dask_with_two_processes_gives_the_same(
    rebuilt: Any, reference: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the workers import our packages
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster:
        flags = (f"--runner={DASK}", f"--dask_client_address={cluster.scheduler_address}", "--dask_npartitions=8")
        assert rebuilt(*flags) == reference


@pytest.fixture(scope="module")
def embedded(sample_mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Builds 40 recordings from nothing, embedded and judged; the first one is the reference."""
    known: dict[str, Any] = {}

    def build(*flags: str, env: dict[str, str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        folder = tmp_path_factory.mktemp("embedded")
        places = ("--mirror", str(sample_mirror), "--output", str(folder / "out"), "--cache-dir", str(folder / "cache"))
        built("--dataset", "irmas", "--limit", "40", "--embedder", "logmel", *places, *flags, env=env)
        found = fingerprint(folder / "out")
        return found, known.setdefault("reference", found)

    return build


@pytest.mark.parametrize(
    ("batch", "flags", "env"),
    [
        (64, (), {}),
        (1, (), {"OPENBLAS_CORETYPE": "Haswell"}),
        (7, ("--direct_running_mode=multi_processing", "--direct_num_workers=2"), {"OPENBLAS_CORETYPE": "Prescott"}),
        (7, (), {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "SkylakeX"}),
    ],
)
def test_batches_processors_and_threads_give_the_same_embeddings(
    embedded: Any, batch: int, flags: tuple[str, ...], env: dict[str, str]
) -> None:
    found, reference = embedded("--set", f"embed.batch={batch}", *flags, env=env)

    assert found == reference


def test_dask_gives_the_same_embeddings(embedded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster:
        flags = (f"--runner={DASK}", f"--dask_client_address={cluster.scheduler_address}", "--dask_npartitions=8")
        found, reference = embedded("--set", "embed.batch=5", *flags)

    assert found == reference


def test_a_mirror_over_http_gives_the_same_as_the_folder(
    rebuilt: Any, reference: dict[str, Any], sample_mirror: Path
) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(sample_mirror))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert rebuilt(mirror=f"http://127.0.0.1:{server.server_port}") == reference
        server.shutdown()


def test_the_order_of_archives_and_lists_does_not_matter(
    rebuilt: Any, reference: dict[str, Any], sample_mirror: Path, tmp_path: Path
) -> None:
    assert rebuilt(mirror=shuffled_mirror(sample_mirror, tmp_path / "shuffled", seed=1)) == reference


@pytest.mark.slow
def test_real_recordings_give_the_same_with_two_workers(shared: Path, mirror_build: Path, rebuilt: Any) -> None:
    flags = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    assert rebuilt(*flags, mirror=shared / "mirror", env={"PYTHONHASHSEED": "1"}) == fingerprint(mirror_build)


@pytest.mark.slow
def test_real_recordings_give_the_same_in_another_order(
    shared: Path, mirror_build: Path, rebuilt: Any, tmp_path: Path
) -> None:
    mirror = shuffled_mirror(shared / "mirror", tmp_path / "shuffled", seed=2)
    assert rebuilt(mirror=mirror) == fingerprint(mirror_build)
