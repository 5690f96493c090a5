from pathlib import Path

import torch
from torch import nn

from train.recipe import load_recipe
from train.saved import Progress, checkpoint_state, encode_tensors, load_checkpoint, save_checkpoint


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
