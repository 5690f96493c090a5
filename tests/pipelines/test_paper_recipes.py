"""Recipes of the papers: which corpora, labels, filters and splits they name."""

from dataclasses import replace

import pytest

from tutti.datasets.sources import audioset, irmas, openmic2018
from tutti.datasets.taxonomy import IRMAS_INSTRUMENTS
from tutti.pipelines.recipe import load_recipe, with_sources
from tutti.pipelines.stages.curate import CurateConfig
from tutti.pipelines.stages.select import SelectConfig


def test_ultimate_is_lumens_corpora_and_split_with_three_valued_labels():
    recipe = load_recipe("ultimate")

    assert recipe.sources == {
        "irmas": irmas.Config(others="unknown"),
        "openmic2018": openmic2018.Config(mode="ternary", min_relevance=0.5),
        "audioset": audioset.Config(
            selection="single", others="unknown", ontology_closure=False, added_mids=False, generic_guitar=False
        ),
    }
    assert recipe.split.rules == {
        "irmas/train": "train",
        "irmas/test": {"train": 0.5, "validation": 0.5},
        "openmic2018/train": "train",
        "openmic2018/test": "test",
        "audioset/balanced_train": "train",
        "audioset/unbalanced_train": "train",
        "audioset/eval": "test",
    }
    assert recipe.classes() == IRMAS_INSTRUMENTS
    assert recipe.select.keep == "all"  # OpenMIC clips with no known class of ours are kept


def test_lumen_differs_from_ultimate_in_its_labels_its_filter_and_its_hard_decisions_only():
    ultimate, lumen = load_recipe("ultimate"), load_recipe("lumen")

    assert lumen.sources == {
        "irmas": irmas.Config(others="absent"),
        "openmic2018": openmic2018.Config(mode="lumen", lumen_relevance=0.8),
        "audioset": audioset.Config(selection="single", others="absent"),
    }
    assert lumen.select == SelectConfig(keep="present", keep_sources=("openmic2018",))
    assert (lumen.outliers.mode, lumen.pseudo_label.mode) == ("fixed", "hard")
    assert lumen.outliers.fixed_cutoffs == {"irmas": 0.11, "audioset": 0.13}
    assert lumen.curate == CurateConfig(drop_sources=("irmas", "audioset"), pool=False)  # each corpus by itself
    assert lumen.split == replace(ultimate.split, splitter="skmultilearn")
    changed = ("name", "sources", "select", "curate", "outliers", "pseudo_label", "split")
    assert replace(lumen, **{name: getattr(ultimate, name) for name in changed}) == ultimate


HALF = {"irmas/train": "train", "irmas/test": {"train": 0.5, "validation": 0.5}}  # requirement P3


@pytest.mark.parametrize(
    ("name", "rules", "filtered", "cleaned"),
    [
        ("boosted_irmas", {}, ("all", ()), ("irmas",)),
        (
            "irmas_audioset",
            {"audioset/balanced_train": "train", "audioset/unbalanced_train": "train", "audioset/eval": "test"},
            ("all", ()),
            ("irmas", "audioset"),
        ),
        (
            "irmas_openmic",
            {"openmic2018/train": "train", "openmic2018/test": "test"},
            ("present", ("openmic2018",)),
            ("irmas",),
        ),
    ],
)
def test_the_data_of_lumens_best_runs_are_parts_of_lumen(name, rules, filtered, cleaned):
    recipe, lumen = load_recipe(name), load_recipe("lumen")

    assert recipe.split == replace(lumen.split, rules={**HALF, **rules})
    assert (recipe.select.keep, recipe.select.keep_sources) == filtered
    assert recipe.curate == replace(lumen.curate, drop_sources=cleaned)
    assert recipe.sources == {source: lumen.sources[source] for source in recipe.sources}
    same = ("name", "sources", "split", "select", "curate")
    assert replace(recipe, **{field: getattr(lumen, field) for field in same}) == lumen


def test_a_part_of_which_nothing_is_filtered_or_cleaned_keeps_everything():
    part = with_sources(load_recipe("lumen"), "part", ["openmic2018"])

    assert part.curate.drop == "none"
    assert with_sources(load_recipe("lumen"), "part", ["irmas"]).select.keep == "all"


def test_irmas_validates_on_15_percent_of_the_train_songs_and_tests_on_all_of_the_test_set():
    assert load_recipe("irmas").split.rules == {
        "irmas/train": {"train": 0.85, "validation": 0.15},
        "irmas/test": "test",
    }
