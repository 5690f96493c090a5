"""The dataset card and croissant.json: what people and machines read about a dataset."""

import pytest
import yaml

from tutti.datasets.shard_info import ShardInfo
from tutti.pipelines.export.card import Counts, count_kept, dataset_card, hub_license, readme, size_category, table
from tutti.pipelines.export.formats.croissant import describe, license_url

CONTENT = {
    "schema_version": 2,
    "dataset": "mine: 1",
    "root_digest": "0123456789abcdef" * 4,
    "instruments": ["cello", "flute"],
    "recipe": {"prepare": {"sample_rate": 16_000}},
    "sources": {
        "folder": {
            "title": "Own audio", "homepage": "", "license": "unknown", "license_url": "", "citation": "none"
        },
        "irmas": {
            "title": "IRMAS", "homepage": "https://www.upf.edu/web/mtg/irmas", "license": "CC-BY-NC-SA-3.0",
            "license_url": "https://creativecommons.org/licenses/by-nc-sa/3.0/", "citation": "Bosch 2012",
        },
    },
}  # fmt: skip
COUNTS = Counts(
    splits={"train": 2, "validation": 0, "test": 1},
    licenses={"CC-BY-NC-SA-3.0": 2, "LicenseRef-mine": 1},
    sources={"irmas": 3},
    left_out={"unknown": 1_200},
)
SHARDS = [
    ShardInfo("data/train-00000-of-00002.parquet", "train", 1, 100, "aa" * 32, ""),
    ShardInfo("data/train-00001-of-00002.parquet", "train", 1, 50, "bb" * 32, ""),
    ShardInfo("data/validation-00000-of-00001.parquet", "validation", 0, 10, "cc" * 32, ""),
    ShardInfo("data/test-00000-of-00001.parquet", "test", 1, 25, "dd" * 32, ""),
]


@pytest.fixture(scope="module")
def front_matter():
    _, matter, _ = dataset_card(CONTENT, COUNTS, SHARDS, usage="").split("---\n", 2)
    return yaml.safe_load(matter)


# --- the card


def test_the_front_matter_names_licences_task_and_size(front_matter):
    assert {name: front_matter[name] for name in ("pretty_name", "license", "task_categories", "size_categories")} == {
        "pretty_name": "mine: 1",
        "license": ["cc-by-nc-sa-3.0", "other"],
        "task_categories": ["audio-classification"],
        "size_categories": ["n<1K"],
    }


def test_a_split_without_clips_is_not_on_the_card(front_matter):
    assert front_matter["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "data/train-*.parquet"},
                {"split": "test", "path": "data/test-*.parquet"},
            ],
        }
    ]
    assert front_matter["dataset_info"]["splits"] == [
        {"name": "train", "num_bytes": 150, "num_examples": 2},
        {"name": "test", "num_bytes": 25, "num_examples": 1},
    ]


def test_the_features_are_the_columns_of_a_shard(front_matter):
    features = {feature.pop("name"): feature for feature in front_matter["dataset_info"]["features"]}

    assert list(features) == [
        "id", "audio", "sample_rate", "num_samples", "source", "recording", "group", "start_s", "end_s", "presence",
        "confidence", "label_origin", "quality", "loudness_lufs", "gain_db", "license", "audio_sha256",
    ]  # fmt: skip
    assert features["audio"] == {"dtype": {"audio": {"sampling_rate": 16_000}}}
    assert features["presence"] == {"list": "int8", "length": 2}
    assert features["start_s"] == {"dtype": "float64"}
    assert features["quality"] == {"dtype": "float32"}


def test_the_text_says_whose_the_clips_are_and_what_was_left_out():
    text = readme(CONTENT, COUNTS, usage='load("FOLDER", "SPLIT")\n')

    assert "| LicenseRef-mine | 1 |" in text
    assert "1,200 clips of the version under other licences were left out:" in text
    assert '```python\nload("FOLDER", "train")\n```' in text
    assert "| [IRMAS](https://www.upf.edu/web/mtg/irmas) |" in text
    assert "Own audio" not in text  # none of its clips is here


def test_the_text_names_cleanlabs_version_and_method_and_how_many_clips_went():
    corpus = {
        "score": "cleanlab self_confidence", "mode": "calibrated",
        "sources": {"irmas": {"doubted": 15, "held": 1, "judged": 209}},
    }  # fmt: skip
    outliers = {"irmas/single": corpus, "openmic2018/multi": {"skipped": "9 songs; 30 are needed"}}
    curation = {"embedder": {"name": "ast"}, "tools": {"cleanlab": "2.9.0"}, "outliers": outliers}

    text = readme(CONTENT | {"curation": curation}, COUNTS, usage="")

    assert "scored by cleanlab 2.9.0 (cleanlab self_confidence, mode calibrated)" in text.replace("\\", "")
    assert "Of 209 clips that were judged, 15 were left out" in text
    assert "Label quality" not in readme(CONTENT, COUNTS, usage="")
    assert "Label quality" not in readme(CONTENT | {"curation": {"outliers": ["anything"]}}, COUNTS, usage="")


def test_counts_are_those_of_the_kept_clips():
    rows = [
        {"id": "a", "status": "kept", "split": "test", "license": "CC0-1.0", "source": "irmas"},
        {"id": "b", "status": "rejected", "license": "unknown", "source": "irmas"},
    ]

    assert count_kept(rows) == Counts({"train": 0, "validation": 0, "test": 1}, {"CC0-1.0": 1}, {"irmas": 1}, {})


@pytest.mark.parametrize(
    ("license_id", "on_the_hub"),
    [
        ("CC-BY-NC-SA-3.0", "cc-by-nc-sa-3.0"),
        ("https://creativecommons.org/licenses/by-nc-nd/4.0/", "cc-by-nc-nd-4.0"),
        ("http://creativecommons.org/licenses/by/3.0", "cc-by-3.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("https://creativecommons.org/licenses/by/3.0/us/", "other"),
        ("LicenseRef-YouTube-uploader", "other"),
        ("unknown", "unknown"),
    ],
)
def test_a_licence_has_the_hubs_name_or_is_other(license_id, on_the_hub):
    assert hub_license(license_id) == on_the_hub


@pytest.mark.parametrize(
    ("num_clips", "category"), [(999, "n<1K"), (1_000, "1K<n<10K"), (36_000, "10K<n<100K"), (10**7, "n>10M")]
)
def test_the_size_category_is_the_hubs(num_clips, category):
    assert size_category(num_clips) == category


def test_a_bar_in_a_cell_does_not_end_it():
    assert table(("a", "b"), [("x|y", 1_000)]) == "| a | b |\n| --- | --- |\n| x\\|y | 1,000 |"


# --- Croissant


def test_every_shard_with_clips_is_a_file_object_with_its_digest():
    *files, file_set = describe(CONTENT, COUNTS, SHARDS)["distribution"]

    assert [(file["contentUrl"], file["contentSize"], file["sha256"][:4]) for file in files] == [
        ("data/train-00000-of-00002.parquet", "100 B", "aaaa"),
        ("data/train-00001-of-00002.parquet", "50 B", "bbbb"),
        ("data/test-00000-of-00001.parquet", "25 B", "dddd"),
    ]
    assert (file_set["@type"], file_set["includes"]) == ("cr:FileSet", "data/*.parquet")


def test_records_have_a_field_per_column_and_their_split():
    splits, instruments, clips = describe(CONTENT, COUNTS, SHARDS)["recordSet"]

    assert [record["splits/name"] for record in splits["data"]] == ["train", "test"]
    assert [record["instruments/name"] for record in instruments["data"]] == ["cello", "flute"]
    fields = {field["name"]: field for field in clips["field"]}
    assert len(fields) == 18
    assert fields["split"]["references"] == {"field": {"@id": "splits/name"}}
    assert (fields["presence"]["dataType"], fields["presence"]["arrayShape"]) == ("cr:Int8", "2")
    assert fields["audio"]["source"] == {
        "fileSet": {"@id": "shards"},
        "extract": {"column": "audio"},
        "transform": {"jsonPath": "bytes"},
    }


def test_the_croissant_version_follows_the_contents_and_no_clock():
    described = describe(CONTENT, COUNTS, SHARDS)

    assert described["version"] == "2.0.0+0123456789ab"
    assert "datePublished" not in described


@pytest.mark.parametrize(
    ("license_id", "url"),
    [
        ("CC-BY-NC-SA-3.0", "https://spdx.org/licenses/CC-BY-NC-SA-3.0"),
        ("https://creativecommons.org/licenses/by/4.0/", "https://creativecommons.org/licenses/by/4.0/"),
        ("LicenseRef-mine", "LicenseRef-mine"),
        ("unknown", "unknown"),
    ],
)
def test_a_licence_is_an_address_where_there_is_one(license_id, url):
    assert license_url(license_id) == url
