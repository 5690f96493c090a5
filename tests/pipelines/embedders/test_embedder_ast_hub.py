"""The AST embedder from a hub: a real client, a loopback server that answers as the Hugging Face hub does."""

import shutil

import pytest
from huggingface_hub import constants
from server import Answer
from signals import noise
from tiny_ast import COMMIT, NAME, Hub, file_path, write_tiny_ast

from tutti.datasets.errors import IntegrityError, TryLaterError, UsageError
from tutti.pipelines.embedders.ast import load

WAVEFORM = noise(1.0, sample_rate=16_000)[0]
REMEDY = (
    "fetch the weights where there is a network with `hf download someone/tiny-ast config.json "
    "preprocessor_config.json model.safetensors --local-dir DIR` and pass --embedder DIR, "
    "or pass --embedder logmel, which needs no weights"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_tiny_ast(tmp_path_factory.mktemp("ast"))
    (folder / "pytorch_model.bin").write_bytes(b"never asked for")
    return folder


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of the hub's client; no hub listens until `hub` is asked for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TUTTI_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    point_client_at("http://127.0.0.1:9", monkeypatch)  # the discard port: nobody listens
    return tmp_path / "hub"


@pytest.fixture
def hub(folder, hub_cache, monkeypatch):
    with Hub() as running:
        point_client_at(running.url, monkeypatch)
        running.publish(folder)
        yield running


def point_client_at(url, monkeypatch):
    """What HF_ENDPOINT does; the client reads it at its import, so set what it read."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def test_a_model_of_the_hub_is_the_model_of_its_folder_and_no_pickle_is_fetched(hub, folder):
    embedder, local = load(NAME), load(str(folder))

    assert embedder.digest == local.digest
    assert (embedder.embed([WAVEFORM]) == local.embed([WAVEFORM])).all()
    assert hub.asked(file_path("model.safetensors")) > 0
    assert hub.asked(file_path("pytorch_model.bin")) == 0


def test_offline_the_hubs_cache_is_used_and_nobody_asked(hub, folder, monkeypatch):
    digest = load(NAME).digest
    hub.requests.clear()
    monkeypatch.setenv("TUTTI_OFFLINE", "1")

    assert load(NAME).digest == digest
    assert hub.requests == []


def test_offline_without_cached_weights_the_error_says_what_to_do(hub, monkeypatch):
    monkeypatch.setenv("TUTTI_OFFLINE", "1")

    with pytest.raises(UsageError) as error:
        load(NAME)

    assert str(error.value) == (
        f"embedder {NAME}: offline is asked for, and its weights are not in the hub's cache; {REMEDY}"
    )
    assert hub.requests == []


def test_without_network_the_error_says_what_to_do(hub_cache):
    with pytest.raises(UsageError) as error:
        load(NAME)

    assert str(error.value) == (
        f"embedder {NAME}: the hub cannot be reached, and its weights are not in the hub's cache; {REMEDY}"
    )


def test_a_revision_is_the_one_that_is_fetched(hub, folder):
    hub.script(f"/api/models/{NAME}/revision/main", Answer(status=500))

    assert load(f"{NAME}@{COMMIT}").digest == load(str(folder)).digest


def test_the_remedy_keeps_the_revision(hub_cache):
    with pytest.raises(UsageError, match=rf"model\.safetensors --revision {COMMIT} --local-dir DIR"):
        load(f"{NAME}@{COMMIT}", local_only=True)


def test_a_model_that_the_hub_does_not_have_is_a_usage_error(hub):
    missing = Answer(status=404, headers={"X-Error-Code": "RepoNotFound"})
    hub.script("/api/models/someone/else/revision/main", missing)

    with pytest.raises(UsageError, match="embedder someone/else: the hub has no such model or revision"):
        load("someone/else")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (f"/api/models/{NAME}/revision/main", Answer(status=500)),
        (f"/api/models/{NAME}/tree/{COMMIT}", Answer(status=403)),
        (file_path("config.json"), Answer(status=403)),
        (file_path("model.safetensors"), Answer(status=403)),
    ],
    ids=["facts", "tree", "a small file", "the weights"],
)
def test_a_hub_that_fails_asks_to_try_later(hub, path, answer):
    hub.script(path, answer)

    with pytest.raises(TryLaterError, match=f"embedder {NAME}: the hub fails .*; run it again later, or fetch the"):
        load(NAME)


def test_a_damaged_file_of_the_hubs_cache_is_found_by_the_published_digest(hub, hub_cache):
    load(NAME)
    (weights,) = hub_cache.glob("*/snapshots/*/model.safetensors")
    blob = weights.resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)

    with pytest.raises(IntegrityError, match=f"{blob}: sha256 is .*, the hub published {blob.name}; delete the file"):
        load(NAME, local_only=True)


def test_a_hub_without_safetensors_is_refused(hub, folder, tmp_path):
    pickled = shutil.copytree(folder, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    hub.publish(pickled)

    with pytest.raises(UsageError, match=r"lacks model\.safetensors; fetch the weights"):
        load(NAME)
