import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from dataset_fixture import learnable_dataset
from mutations import mutated
from torch import nn

from tutti.datasets.errors import IntegrityError, TuttiError
from tutti.datasets.manifest import read_manifest
from tutti.train.fitting.checkpoints import (
    CHECKPOINT,
    Progress,
    checkpoint_state,
    encode_tensors,
    load_checkpoint,
    save_checkpoint,
)
from tutti.train.recipe import load_recipe
from tutti.train.run import train
from tutti.train.runs.saved import CONFIG, MODEL, load_run

COUNT = int(os.environ.get("TUTTI_MUTATIONS", "200"))
SMALL = ["epochs=1", "batch_size=8", "window_s=0.8", "features.n_mels=32", "model_config.width=4"]
CPU = torch.device("cpu")


def small_network(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)
    return network, torch.optim.AdamW(network.parameters(), lr=0.1)


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    inputs = torch.linspace(-1, 1, 4 * 2 * 5 * 5).reshape(4, 2, 5, 5)
    optimizer.zero_grad()
    network(inputs).square().sum().backward()
    optimizer.step()


def test_a_checkpoint_brings_back_network_optimizer_and_progress(tmp_path: Path) -> None:
    network, optimizer = small_network(seed=0)
    step(network, optimizer)
    best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    step(network, optimizer)
    progress = Progress(2, best_epoch=1, best_score=0.5, best_weights=best, history=[{"epoch": 1}, {"epoch": 2}])
    progress.step_losses = [torch.tensor(0.25), torch.tensor(0.125)]
    progress.average = {"0.bias": torch.tensor([1.0, 2.0, 3.0])}
    save_checkpoint(tmp_path, {"recipe": load_recipe("logmel_cnn").name}, network, optimizer, progress)

    other, other_optimizer = small_network(seed=1)
    loaded = load_checkpoint(tmp_path, other, other_optimizer)
    assert (loaded.finished_epochs, loaded.best_epoch, loaded.best_score) == (2, 1, 0.5)
    assert loaded.history == [{"epoch": 1}, {"epoch": 2}]
    assert [float(loss) for loss in loaded.step_losses] == [0.25, 0.125]
    assert loaded.average["0.bias"].tolist() == [1.0, 2.0, 3.0]
    assert loaded.best_weights.keys() == best.keys()
    assert all(torch.equal(loaded.best_weights[name], tensor) for name, tensor in best.items())
    for _ in range(2):  # now, and after one more step of each
        assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in network.state_dict().items())
        step(network, optimizer)
        step(other, other_optimizer)


def test_where_there_is_no_checkpoint_progress_is_none(tmp_path: Path) -> None:
    network, optimizer = small_network(seed=0)
    assert checkpoint_state(tmp_path) is None
    assert load_checkpoint(tmp_path, network, optimizer) == Progress()


def test_a_tensor_file_depends_on_values_alone() -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, 2, 2, 2)}
    other = {"b": tensors["b"].to(memory_format=torch.channels_last), "a": tensors["a"].t().contiguous().t()}
    assert encode_tensors(tensors, {"x": 1, "y": 2}) == encode_tensors(other, {"y": 2, "x": 1})


# --- a stranger's run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small network."""
    folder = tmp_path_factory.mktemp("run")
    data = learnable_dataset(folder / "data", num_train=16, num_others=8)
    train(load_recipe("logmel_cnn", SMALL), read_manifest(data), output=folder / "run")
    return folder / "run"


@pytest.fixture
def config(run: Path) -> Any:
    """Its config, to be changed; afterwards it is as it was."""
    sound = (run / CONFIG).read_bytes()
    yield json.loads(sound)
    (run / CONFIG).write_bytes(sound)


def taken(folder: Path) -> bool:
    """Whether a run is loaded; any error that is not our own, of one line, is the test's failure."""
    try:
        load_run(folder, CPU)
    except TuttiError as error:
        return "\n" in str(error) and pytest.fail(f"more than one line: {error}")
    return True


@pytest.mark.usefixtures("config", "one_thread")
def test_a_mutated_config_is_an_error_of_ours_or_a_run(run: Path) -> None:
    sound = (run / CONFIG).read_bytes()
    assert taken(run)
    loaded = 0
    for number in range(COUNT):
        (run / CONFIG).write_bytes(mutated(sound, random.Random(number)))
        loaded += taken(run)
    assert loaded < COUNT / 4


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("recipe.epochs", "3", "epochs: expected int, found '3'"),
        ("recipe.model_config.width", 1 << 15, "describes a network of .* bytes, its weights have"),
        ("recipe.model_config.width", 1 << 40, "model_config.width: at most 1,048,576"),
        ("recipe.window_s", 1e9, "window_s must be at most 3600"),
        ("recipe.model", "../../x", "unknown model"),
        ("recipe.loss", None, "loss: expected an object"),
        ("instruments", ["cello", "cello"], "expected names, each once"),
        ("instruments", "cello", "instruments: expected"),
        ("thresholds.cello", "0.5", "thresholds.cello: expected float"),
        ("standardization.std_db", [0.0] * 32, "as many deviations above 0 as means"),
        ("standardization.mean_db", ["a"] * 32, "standardization.mean_db.0: expected float"),
        ("standardization.mean_db", [0.0], "as many deviations above 0 as means"),
        ("model_sha256", None, "model_sha256: expected str"),
        ("model_sha256", "0" * 64, "not the weights that config.json names"),
        ("data", {"dataset": "x"}, "version"),
    ],
)
def test_a_config_that_harms_is_refused_by_name(run: Path, config: Any, path: str, value: Any, message: str) -> None:
    *names, last = path.split(".")
    owner = config
    for name in names:
        owner = owner[name]
    owner[last] = value
    (run / CONFIG).write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(TuttiError, match=message):
        load_run(run, CPU)


@pytest.mark.parametrize(
    "state", ["[]", "1", '{"schema_version":2}', "{", "[" * 5_000, '{"schema_version":2,"history":1}']
)
def test_a_checkpoint_of_other_contents_is_refused(tmp_path: Path, state: str) -> None:
    network, optimizer = small_network(seed=0)
    save_checkpoint(tmp_path, {}, network, optimizer, Progress())
    tensors = safetensors.torch.load_file(tmp_path / CHECKPOINT)
    (tmp_path / CHECKPOINT).write_bytes(safetensors.torch.save(tensors, metadata={"state": state}))

    with pytest.raises(IntegrityError, match=r"checkpoint\.safetensors"):
        load_checkpoint(tmp_path, network, optimizer)


def test_flips_anywhere_in_weights_are_refused(run: Path) -> None:
    sound, rng = (run / MODEL).read_bytes(), random.Random(0)
    for place in rng.sample(range(len(sound)), 20):
        content = bytearray(sound)
        content[place] ^= 1 << rng.randrange(8)
        (run / MODEL).write_bytes(content)
        with pytest.raises(IntegrityError, match=r"not the weights that config\.json names"):
            load_run(run, CPU)
    (run / MODEL).write_bytes(sound)
