import math
import warnings

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from tutti.datasets.errors import UsageError
from tutti.train.fitting.optimize import (
    MovingAverage,
    OptimizeConfig,
    clip_gradients,
    freeze,
    make_optimizer,
    one_cycle,
    parameter_groups,
    schedule,
    set_learning_rates,
    step_decay,
    warmup_cosine,
)


class Network(nn.Module):
    """A backbone of two blocks with batch norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.top = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.top(self.stem(values)))
        return logits


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network()


def batch(seed: int = 0) -> torch.Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))


def torchs_factors(
    make: type[lr_scheduler.LRScheduler], num_steps: int, peak: float = 0.5, **options: float
) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make(optimizer, **options)
        factors = []
        for _ in range(num_steps):
            factors.append(optimizer.param_groups[0]["lr"] / peak)
            optimizer.step()
            scheduler.step()
    return factors


@pytest.mark.parametrize("three_phases", [False, True])
@pytest.mark.parametrize(("num_steps", "warmup_share"), [(100, 0.3), (37, 0.2), (10, 0.4)])
def test_one_cycle_is_torchs(num_steps: int, warmup_share: float, three_phases: bool) -> None:
    expected = torchs_factors(
        lr_scheduler.OneCycleLR, num_steps - 1, max_lr=0.5, total_steps=num_steps, pct_start=warmup_share,
        three_phase=three_phases,
    )  # fmt: skip
    found = [one_cycle(step, num_steps, warmup_share, three_phases=three_phases) for step in range(num_steps - 1)]
    assert found == pytest.approx(expected, rel=1e-6)
    assert one_cycle(num_steps - 1, num_steps, warmup_share, three_phases=three_phases) == pytest.approx(1 / 25e4)


def test_warmup_and_cosine_is_torchs_linear_then_cosine() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    parts: list[lr_scheduler.LRScheduler] = [
        lr_scheduler.LinearLR(optimizer, start_factor=1 / 13, total_iters=12),
        lr_scheduler.CosineAnnealingLR(optimizer, T_max=48),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = lr_scheduler.SequentialLR(optimizer, parts, milestones=[12])
        expected = []
        for _ in range(60):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    assert [warmup_cosine(step, 60, 12) for step in range(60)] == pytest.approx(expected, abs=1e-6)


def test_step_decay_is_torchs() -> None:
    expected = torchs_factors(lr_scheduler.StepLR, 90, step_size=20, gamma=0.1)
    assert [step_decay(step, 20, 0.1) for step in range(90)] == pytest.approx(expected)


def test_a_schedule_counts_epochs_in_steps() -> None:
    factor = schedule(OptimizeConfig(schedule="step", drop_epochs=2, drop_factor=0.5), num_steps=50, steps_per_epoch=10)
    assert [factor(step) for step in (0, 19, 20, 39, 40)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    constant = schedule(OptimizeConfig(schedule="constant"), 50, 10)
    assert {constant(step) for step in range(50)} == {1.0}


@pytest.mark.parametrize("name", ["warmup_cosine", "one_cycle"])
def test_a_schedule_rises_to_the_peak_and_falls_to_next_to_nothing(name: str) -> None:
    config = OptimizeConfig(schedule=name, warmup_share=0.25)  # type: ignore[arg-type]
    factors = [schedule(config, 80, 10)(step) for step in range(80)]
    peak = factors.index(max(factors))
    assert max(factors) == pytest.approx(1.0)
    assert 19 <= peak <= 20
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] < 2e-3


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("name", ["constant", "warmup_cosine", "one_cycle", "step"])
def test_the_shortest_runs_have_a_rate_above_zero(name: str, num_steps: int) -> None:
    factor = schedule(OptimizeConfig(schedule=name), num_steps, 1)  # type: ignore[arg-type]
    assert all(0 < factor(step) <= 1 for step in range(num_steps))


def test_three_phases_that_leave_no_final_one_are_refused() -> None:
    with pytest.raises(UsageError, match=r"three_phases needs less than 0\.5"):
        schedule(OptimizeConfig(three_phases=True, warmup_share=0.6), 100, 10)


def test_parameters_fall_into_head_backbone_frozen_and_batch_norms() -> None:
    groups = parameter_groups(network(), backbone=("top.",))
    assert groups.head == ("head.weight", "head.bias")
    assert groups.backbone == ("top.0.weight", "top.0.bias")
    assert groups.frozen == ("stem.0.weight", "stem.0.bias")
    assert groups.norms == ("stem.1.weight", "stem.1.bias", "top.1.weight", "top.1.bias")


def test_by_default_everything_but_the_head_is_backbone() -> None:
    groups = parameter_groups(network())
    assert groups.frozen == ()
    assert len(groups.backbone) == 4


def test_a_network_without_a_head_is_refused_by_the_prefix() -> None:
    with pytest.raises(UsageError, match=r"no parameter begins with classifier\.; the first is stem\.0\.weight"):
        parameter_groups(network(), head=("classifier.",))


@pytest.mark.parametrize("optimizer_name", ["adam", "adamw", "sgd"])
def test_the_backbone_is_unfrozen_after_the_heads_epochs_and_the_rest_never(optimizer_name: str) -> None:
    net = network()
    groups = parameter_groups(net, backbone=("top.",))
    config = OptimizeConfig(optimizer=optimizer_name, learning_rate=0.1, head_epochs=2)  # type: ignore[arg-type]
    optimizer = make_optimizer(net, groups, config)
    moved: list[set[str]] = []
    for epoch in range(4):
        before = {name: value.detach().clone() for name, value in net.named_parameters()}
        freeze(net, groups, backbone_frozen=epoch < config.head_epochs)
        optimizer.zero_grad(set_to_none=True)
        net(batch(epoch)).square().sum().backward()
        optimizer.step()
        moved.append({name for name, value in net.named_parameters() if not torch.equal(value, before[name])})
    # A bias before a batch norm has no gradient but rounding; weight decay or momentum may move it all the same.
    always = {*groups.head, *groups.norms}
    assert [part - {"top.0.bias"} for part in moved] == [
        always, always, always | {"top.0.weight"}, always | {"top.0.weight"}
    ]  # fmt: skip


def test_a_backbone_that_is_frozen_again_keeps_its_weights_despite_momentum_and_decay() -> None:
    net = network()
    groups = parameter_groups(net)
    optimizer = make_optimizer(net, groups, OptimizeConfig(learning_rate=0.1, weight_decay=0.5))
    net(batch()).square().sum().backward()
    optimizer.step()
    freeze(net, groups, backbone_frozen=True)
    before = net.top[0].weight.detach().clone()
    net(batch(1)).square().sum().backward()
    optimizer.step()
    assert torch.equal(net.top[0].weight, before)


def test_batch_norms_of_a_frozen_backbone_go_on_measuring() -> None:
    net = network()
    freeze(net, parameter_groups(net, backbone=()), backbone_frozen=True)
    net.train()
    net(batch())
    norm = net.stem[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_mean.abs().sum() > 0


def test_head_and_backbone_have_their_own_peaks_under_one_schedule() -> None:
    net = network()
    config = OptimizeConfig(learning_rate=1e-2, backbone_learning_rate=1e-4)
    optimizer = make_optimizer(net, parameter_groups(net), config)
    set_learning_rates(optimizer, 0.5)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {"head": 5e-3, "backbone": 5e-5}
    set_learning_rates(optimizer, 0.5)  # of the peak, not of the rate before
    assert optimizer.param_groups[0]["lr"] == 5e-3


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimizer_has_the_asked_kind_and_weight_decay(name: str, kind: type) -> None:
    net = network()
    optimizer = make_optimizer(net, parameter_groups(net), OptimizeConfig(optimizer=name, weight_decay=5e-4))  # type: ignore[arg-type]
    assert type(optimizer) is kind
    assert {group["weight_decay"] for group in optimizer.param_groups} == {5e-4}
    if name == "sgd":
        assert optimizer.param_groups[0]["momentum"] == 0.9


def gradients(parameters: list[nn.Parameter]) -> list[float]:
    return [parameter.grad.item() for parameter in parameters if parameter.grad is not None]


def test_clipping_scales_all_gradients_alike_and_answers_the_norm_before() -> None:
    parameters = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_gradients(parameters, None).item() == 5.0
    assert gradients(parameters) == [3.0, 4.0]
    assert clip_gradients(parameters, 1.0).item() == 5.0
    assert [parameter.grad.item() for parameter in parameters if parameter.grad is not None] == pytest.approx(
        [0.6, 0.8]
    )


def test_the_moving_average_is_the_textbooks_and_copies_counters() -> None:
    net = network()
    average = MovingAverage(net, decay=0.9)
    expected = net.head.weight.detach().clone()
    for seed in range(3):
        with torch.no_grad():
            net.head.weight.copy_(torch.randn(2, 4, generator=torch.Generator().manual_seed(seed)))
        net(batch(seed))  # counts in the batch norms
        average.update(net)
        expected = 0.9 * expected + 0.1 * net.head.weight.detach()
    assert torch.allclose(average.weights["head.weight"], expected, atol=1e-6)
    assert average.weights["stem.1.num_batches_tracked"].item() == 3
    net.load_state_dict(average.weights)


def test_a_moving_average_goes_on_from_saved_weights() -> None:
    saved = MovingAverage(network(1), decay=0.9)
    resumed = MovingAverage(network(2), decay=0.9)
    resumed.load(saved.weights)
    for average in (saved, resumed):
        average.update(network(3))
    assert all(torch.equal(saved.weights[name], resumed.weights[name]) for name in saved.weights)


def test_settings_that_make_no_sense_are_refused_by_name() -> None:
    for field, value in {"learning_rate": 0.0, "warmup_share": 1.0, "ema_decay": 1.0, "weight_decay": -1.0}.items():
        with pytest.raises(ValueError, match=field):
            OptimizeConfig(**{field: value})  # type: ignore[arg-type]
    assert math.isclose(OptimizeConfig().learning_rate, 1e-4)
