import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.train.heads import Attention, DecisionAttention, Deep, Fluffy, HeadOptions, make_head

B, T, D, C = 5, 7, 12, 4


def features(*, steps: int = T) -> Tensor:
    return torch.randn(B, steps, D, generator=torch.Generator().manual_seed(1))


def made(kind: str, widths: str = "6,5", dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return make_head(HeadOptions(head=kind, head_widths=widths, head_dropout=dropout), D, C)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["deep", "attention", "decision_attention", "fluffy", "fluffy_attention"])
@pytest.mark.parametrize("widths", ["", "6", "6,5"])
def test_every_head_maps_any_number_of_steps_to_one_logit_per_class(kind: str, widths: str) -> None:
    head = made(kind, widths)
    assert head(features()).shape == (B, C)
    assert head(features(steps=1)).shape == (B, C)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("widths", [(), (6,), (6, 5)])
def test_fluffy_equals_its_heads_one_by_one_in_logits_and_gradients(attention: bool, widths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    fluffy = Fluffy(D, C, widths, attention=attention)
    weights = torch.linspace(-1, 2, B * C).reshape(B, C)
    (fluffy(features()) * weights).sum().backward()
    batched = [weight.grad.clone() for weight in fluffy.parameters()]
    fluffy.zero_grad()
    singly = torch.cat([head(features()) for head in fluffy.heads], dim=1)
    (singly * weights).sum().backward()
    assert torch.allclose(fluffy(features()), singly, atol=1e-6)
    assert len(batched) == len(list(fluffy.parameters()))
    for gradient, weight in zip(batched, fluffy.parameters(), strict=True):
        assert torch.allclose(gradient, weight.grad, atol=1e-5)


@pytest.mark.parametrize("kind", ["fluffy", "fluffy_attention"])
def test_a_new_head_leaves_the_others_bit_equal_and_trains_alone(kind: str) -> None:
    fluffy = made(kind)
    assert isinstance(fluffy, Fluffy)
    before = {name: value.clone() for name, value in fluffy.state_dict().items()}
    logits = fluffy(features())
    fluffy.add_head()
    optimizer = torch.optim.AdamW(fluffy.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(fluffy(features()), torch.ones(B, C + 1)).backward()
        optimizer.step()
    after = fluffy.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.allclose(fluffy(features())[:, :C], logits, atol=1e-6)
    assert {name.split(".")[1] for name, weight in fluffy.named_parameters() if weight.requires_grad} == {str(C)}
    assert fluffy(features())[:, C].min() > 1  # it has learned that its class is always there
    made_larger = Fluffy(D, C + 1, (6, 5), attention=kind == "fluffy_attention")
    made_larger.load_state_dict(after)  # as a run with one class more saves and loads it


def test_a_frozen_head_does_not_move_even_under_momentum_and_weight_decay() -> None:
    fluffy = made("fluffy")
    assert isinstance(fluffy, Fluffy)
    optimizer = torch.optim.AdamW(fluffy.parameters(), lr=0.1, weight_decay=0.5)

    def step() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(fluffy(features()), torch.ones(B, C)).backward()
        optimizer.step()

    step()  # every head has momentum now
    fluffy.freeze_heads([1])
    before = {name: value.clone() for name, value in fluffy.state_dict().items()}
    step()
    moved = {name.split(".")[1] for name, value in fluffy.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"0", "2", "3"}


def test_dropout_of_fluffy_is_drawn_for_every_head_and_only_in_training() -> None:
    fluffy = made("fluffy", dropout=0.5)
    assert not torch.equal(fluffy.train()(features()), fluffy(features()))
    assert torch.equal(fluffy.eval()(features()), fluffy(features()))


def test_a_deep_head_takes_the_mean_over_time() -> None:
    head = made("deep")
    assert isinstance(head, Deep)
    assert torch.allclose(head(features()), head.classify(features().mean(dim=1)))
    assert [type(part).__name__ for part in head.linears] == ["Linear"] * 3
    assert [part.out_features for part in head.linears] == [6, 5, C]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "shape"), [("attention", (B, T)), ("decision_attention", (B, C, T)), ("fluffy_attention", (B, C, T))]
)
def test_attention_weights_are_shares_of_the_time(kind: str, shape: tuple[int, ...]) -> None:
    head = made(kind)
    weights = head.attention(features())  # type: ignore[operator]
    assert weights.shape == shape
    assert weights.min() >= 0
    assert torch.allclose(weights.sum(dim=-1), torch.ones(shape[:-1]))
    assert weights.std() > 1e-4  # they differ from step to step


def test_attention_moves_to_the_step_that_decides() -> None:
    torch.manual_seed(0)
    head = Attention(D, 1)
    generator = torch.Generator().manual_seed(2)
    series = torch.randn(64, T, D, generator=generator)
    where = torch.randint(T, (64,), generator=generator)
    label = torch.randint(2, (64,), generator=generator).float()
    series[torch.arange(64), where, 0] = 6.0  # marks the step that counts
    series[torch.arange(64), where, 1] = label * 6 - 3
    optimizer = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(head(series).squeeze(1), label).backward()
        optimizer.step()
    assert (head.attention(series).argmax(dim=1) == where).float().mean() > 0.95


def test_a_fluffy_head_without_attention_has_no_weights_to_show() -> None:
    with pytest.raises(ValueError, match="choose head=fluffy_attention"):
        made("fluffy").attention(features())  # type: ignore[operator]


def test_decision_attention_averages_probabilities_under_its_weights() -> None:
    head = made("decision_attention")
    assert isinstance(head, DecisionAttention)
    steps_BTC = torch.sigmoid(head.decision(features()))
    expected_BC = (head.attention(features()).transpose(1, 2) * steps_BTC).sum(dim=1)
    assert torch.allclose(torch.sigmoid(head(features())), expected_BC, atol=1e-6)


def test_decision_attention_keeps_a_gradient_where_it_is_wrong_and_sure() -> None:
    head = DecisionAttention(D, 1)
    nn.init.constant_(head.decision.bias, -200.0)  # probability 1e-87: zero in float32
    loss = F.binary_cross_entropy_with_logits(head(features()), torch.ones(B, 1))
    loss.backward()
    assert loss.item() == pytest.approx(200, abs=5)
    assert head.decision.bias.grad.item() == pytest.approx(-1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "depp"}, "head must be one of deep, attention"),
        ({"head_widths": "8,0"}, "head_widths must be at least 1"),
        ({"head_widths": "wide"}, "wide"),
        ({"head_dropout": 1.0}, r"head_dropout must lie in \[0, 1\)"),
    ],
)
def test_options_that_make_no_head_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeadOptions(**options)  # type: ignore[arg-type]
