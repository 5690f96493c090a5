"""What `--set` understands: nested fields, several values, values by name; what is written as JSON is read back."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.datasets.errors import UsageError
from tutti.datasets.record import SPLITS
from tutti.datasets.settings import parse_value, with_field
from tutti.pipelines import recipe as builds
from tutti.pipelines.recipe import as_json, override, recipe_from_json
from tutti.pipelines.stages.split import SplitConfig
from tutti.train import recipe as trainings


@dataclass(frozen=True)
class Inner:
    number: int = 1
    rate: float = 0.5
    text: str = ""


@dataclass(frozen=True)
class Config:
    """A field of every kind."""

    inner: Inner = field(default_factory=Inner)
    shares: Mapping[str, float] = field(default_factory=lambda: {"a": 0.1, "b": 0.2})
    rules: Mapping[str, str | Mapping[str, float]] = field(default_factory=lambda: {"x": {"a": 0.5, "b": 0.5}})
    words: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    pair: tuple[int, int] = (1, 2)
    limit: float | None = None
    mode: Literal["one", "two"] = "one"
    switch: bool = False


def changed(setting: str) -> Config:
    return with_field(Config(), setting)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("inner.number=3", Config(inner=Inner(number=3))),
        ('inner={"number": 3, "text": "x"}', Config(inner=Inner(number=3, text="x"))),
        ("number=3", Config(inner=Inner(number=3))),  # one group alone has it
        ("shares=a:1,c:.5", Config(shares={"a": 1.0, "c": 0.5})),
        ("shares.a=0.7", Config(shares={"a": 0.7, "b": 0.2})),
        ("shares.new-name=0.7", Config(shares={"a": 0.1, "b": 0.2, "new-name": 0.7})),
        ('shares={"a": 1}', Config(shares={"a": 1.0})),
        ("shares=", Config(shares={})),
        ("rules=x:p; y:a:1,b:2", Config(rules={"x": "p", "y": {"a": 1.0, "b": 2.0}})),
        ("rules.y/z=p", Config(rules={"x": {"a": 0.5, "b": 0.5}, "y/z": "p"})),
        ("rules.x.a=0.9", Config(rules={"x": {"a": 0.9, "b": 0.5}})),
        ('rules={"x": "p", "y": {"a": 1}}', Config(rules={"x": "p", "y": {"a": 1.0}})),
        ("words=a, b,", Config(words=("a", "b"))),
        ('words=["a, b"]', Config(words=("a, b",))),
        ("words=[cla]*,[1]", Config(words=("[cla]*", "[1]"))),  # patterns, no JSON of words
        ("numbers=1,2.5", Config(numbers=(1.0, 2.5))),
        ("pair=3,4", Config(pair=(3, 4))),
        ("limit=3", Config(limit=3.0)),
        ("limit=none", Config(limit=None)),
        ("mode=two", Config(mode="two")),
        ("switch=on", Config(switch=True)),
    ],
)
def test_a_setting_changes_one_field_wherever_it_lies(setting, expected):
    assert changed(setting) == expected
    assert json.dumps(as_json(changed(setting))) == json.dumps(as_json(expected))  # 1 and 1.0 are not the same bytes


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("inner.nmber=3", "no field 'nmber' (did you mean 'number'?); known: number, rate, text"),
        ("inner.number.x=3", "'number' has no fields of its own"),
        ("inner=3", "'inner' is a group; set one of inner.number, inner.rate, inner.text"),
        ('inner={"nmber": 3}', "no field 'nmber' (did you mean 'number'?)"),
        ("shares=a", "expected values by name, as in a:1,b:2; got 'a'"),
        ("shares=a:1,a:2", "'a' stands twice"),
        ("shares=a:x", "expected float, got 'x'"),
        ("shares.a=inf", "expected a finite number"),
        ('shares={"a": "x"}', "value.a: expected float, found 'x', in JSON"),
        ("rules.y.a=1", "'rules' has no 'y'; it has x"),
        ("rules.x.a.b=1", "'a' has no fields of its own"),
        ("rules=x", "expected values by name, as in a:train; b:train:0.5,test:0.5; got 'x'"),
        ("numbers=1,x", "expected float, got 'x'"),
        ("pair=1", "expected 2 values, as in 1,2; got '1'"),
        ("mode=tow", "expected one of one, two (did you mean 'two'?)"),
        ("modes=two", "no field 'modes' (did you mean 'mode'?)"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_that_quotes_it(setting, message):
    with pytest.raises(UsageError) as caught:
        changed(setting)

    assert str(caught.value).startswith(f"--set {setting}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_is_no_missing_value_unless_it_may_be():
    assert parse_value("none", str | Mapping[str, float]) == "none"
    assert parse_value("null", float | None) is None


# --- what is written is read back


def places(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All fields of a configuration and of those in it, with their values."""
    for each in dataclasses.fields(config):
        if each.name == "name" or each.metadata.get("local"):
            continue
        value = getattr(config, each.name)
        yield f"{path}{each.name}", value
        if dataclasses.is_dataclass(value):
            yield from places(value, f"{path}{each.name}.")


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(as_json(value))


@pytest.mark.parametrize("name", [name for name in builds.recipe_names() if name not in ("folder", "nsynth")])
def test_every_field_of_every_dataset_can_be_set_to_what_its_json_says(name):
    recipe = builds.load_recipe(name)
    groups = {stage: getattr(recipe, stage) for stage in builds.STAGES} | dict(recipe.sources)
    settings = [f"{group}.{path}={as_text(value)}" for group, one in groups.items() for path, value in places(one)]

    assert len(settings) > 60
    for setting in settings:
        assert override(recipe, setting) == recipe, setting


@pytest.mark.parametrize("name", trainings.recipe_names())
def test_every_field_of_every_training_can_be_set_to_what_its_json_says(name):
    recipe = trainings.load_recipe(name)

    for path, value in places(recipe):
        assert trainings.with_override(recipe, f"{path}={as_text(value)}") == recipe, path


SHARES = st.dictionaries(st.sampled_from(SPLITS), st.floats(0.001, 1_000), min_size=1)
RULES = st.dictionaries(
    st.sampled_from(("irmas/train", "irmas/test", "irmas/*", "*")), st.sampled_from(SPLITS) | SHARES, min_size=1
)
CUTOFFS = st.dictionaries(st.sampled_from(("irmas", "audioset", "openmic2018")), st.floats(0, 1))


def short(rules: Mapping[str, Any]) -> str:
    """The form of the command line."""
    return "; ".join(f"{name}:{rule if isinstance(rule, str) else short_shares(rule)}" for name, rule in rules.items())


def short_shares(shares: Mapping[str, float]) -> str:
    return ",".join(f"{name}:{share!r}" for name, share in shares.items())


@given(RULES, CUTOFFS, st.integers(2, 50), st.floats(1e-6, 1e6))
def test_what_is_set_is_in_the_recipe_and_comes_back_from_its_json(rules, cutoffs, folds, penalty):
    recipe = builds.load_recipe("irmas")
    by_hand = replace(
        recipe,
        split=SplitConfig(rules=rules),
        outliers=replace(
            recipe.outliers,
            fixed_cutoffs=cutoffs,
            fit=replace(recipe.outliers.fit, folds=folds, penalty_scale=penalty),
        ),
    )
    settings = [
        f"split.rules={short(rules)}",
        f"outliers.fixed_cutoffs={short_shares(cutoffs)}",
        f"outliers.fit.folds={folds}",
        f"outliers.fit.penalty-scale={penalty!r}",
    ]
    for setting in settings:
        recipe = override(recipe, setting)

    assert recipe == by_hand
    assert recipe_from_json(json.loads(json.dumps(as_json(recipe)))) == by_hand
    assert override(recipe, f"split.rules={json.dumps(as_json(by_hand.split.rules))}") == by_hand
