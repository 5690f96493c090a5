"""Results of stages carry their own digest and are typed when read: what is damaged counts as absent."""

import hashlib
import json
import os
import random

import pytest
from caches import prepared, run
from rotting import DAMAGES, DEEP, mutated, to_nothing, to_nowhere

from tutti.datasets.errors import IntegrityError
from tutti.datasets.manifest import canonical_json, digest_of
from tutti.pipelines.cache import results
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages.download import known_by_md5, seen_first

MUTATIONS = int(os.environ.get("TUTTI_MUTATIONS", "700"))
A, B = "a" * 64, "b" * 64
URL = "http://host/labels.csv"
AUDIO = {
    "blob": A, "pcm_sha256": A, "native_sha256": A, "source_sha256": A, "sample_rate": 16_000, "num_samples": 5,
    "native_sample_rate": 44_100, "native_num_samples": 14, "num_channels": 2, "codec": "WAV/PCM_16",
    "decoder": "libsndfile", "silence_share": 0.5, "loudness_lufs": None, "gain_db": 3.0, "true_peak_dbtp": -1.0,
    "complete": True, "mean_amplitude": 0.1, "sketch": "0" * 16,
}  # fmt: skip
SAID = {
    "prepare": {"audio": AUDIO, "alignment": {"delay_s": 0.5, "score": 0.25}},
    "embed": {"blob": A},
    "fingerprint": {"blob": A},
    "download": {"url": URL, "sha256": A},
    "first_use": {"url": URL, "sha256": A},
    "gunzip": {"sha256": A, "num_bytes": 10},
    "render": {"blob": A, "silent": [[0.0, 1.5, 60, 0, "piano", 64], [1.0, 2.0, 35, 128, None, 1]]},
    "write": {"path": "data/x", "split": "test", "num_rows": 1, "num_bytes": 2, "sha256": A, "content_sha256": B},
    "own": {"look": [1, 2, 3, 4, 5], "sha256": A, "num_bytes": 1},
    "own_length": {"duration_s": 10.0},
    "sample": {"sha256": A},
}


@pytest.fixture
def cache(tmp_path):
    cache = Cache(tmp_path / "cache")
    (cache.root / "blobs").mkdir(parents=True)
    return cache


def path_of(cache, stage, key):
    return cache.root / "stages" / stage / key[:2] / f"{key}.json"


def test_a_result_is_json_with_a_digest_over_stage_key_and_content(cache):
    cache.remember("embed", "0a1b", {"blob": A})

    content = path_of(cache, "embed", "0a1b").read_bytes()

    expected = hashlib.sha256(b'embed\n0a1b\n{"blob":"%s"}' % A.encode()).hexdigest()
    assert json.loads(content) == {"sha256": expected, "result": {"blob": A}}


@pytest.mark.parametrize("stage", SAID)
def test_what_every_stage_says_comes_back(cache, stage):
    cache.remember(stage, "0a1b", SAID[stage])

    assert cache.result(stage, "0a1b") == SAID[stage]


def test_no_mutation_of_any_result_is_believed():
    rng = random.Random(0)
    contents = {stage: results.encode(stage, "0a1b", said) for stage, said in SAID.items()}

    for _ in range(MUTATIONS):
        stage = rng.choice(list(contents))
        with pytest.raises(results.DamagedResultError):
            results.decode(stage, "0a1b", mutated(contents[stage], rng))


def test_a_result_that_was_copied_under_another_stage_or_key_is_refused():
    content = results.encode("embed", "0a1b", {"blob": A})

    for stage, key in (("fingerprint", "0a1b"), ("embed", "0a1c")):
        with pytest.raises(results.DamagedResultError):
            results.decode(stage, key, content)


HOSTILE = [
    ("embed", {"blob": "../../x"}),
    ("embed", {"blob": A + "\n"}),
    ("embed", {"blob": "A" * 64}),
    ("embed", {}),
    ("embed", {"blob": A, "more": 1}),
    ("gunzip", {"sha256": A, "num_bytes": -1}),
    ("gunzip", {"sha256": A, "num_bytes": True}),
    ("gunzip", {"sha256": A, "num_bytes": 10**300}),
    ("own_length", {"duration_s": -1.0}),
    ("render", {"blob": A, "silent": [[0.0, 1.5, 60, 0, "piano"]]}),
    ("render", {"blob": A, "silent": "x"}),
    ("prepare", {}),
    ("prepare", {"reason": "../x", "detail": ""}),
    ("prepare", {"reason": "silent", "detail": None}),
    ("prepare", {"audio": {**AUDIO, "native_sample_rate": 0}}),
    ("prepare", {"audio": {**AUDIO, "num_samples": 1.5}}),
    ("prepare", {"audio": {**AUDIO, "silence_share": 2}}),
    ("prepare", {"audio": {**AUDIO, "complete": 1}}),
    ("prepare", {"audio": {**AUDIO, "codec": "x" * 30_000}}),
    ("prepare", {"audio": {name: value for name, value in AUDIO.items() if name != "blob"}}),
    ("prepare", {"audio": AUDIO, "reason": "silent"}),
    ("write", {**SAID["write"], "num_rows": "1"}),
]


@pytest.mark.parametrize(("stage", "said"), HOSTILE)
def test_a_right_digest_is_no_signature_so_values_are_typed_as_well(cache, stage, said):
    cache.remember(stage, "0a1b", said)

    assert cache.result(stage, "0a1b") is None


@pytest.mark.parametrize(
    "body",
    [b'{"duration_s":NaN}', b'{"duration_s":1e999}', b'{"duration_s":-Infinity}', DEEP, b"1" * 5_000,
     b'{"blob":"\\ud800"}'],
)  # fmt: skip
@pytest.mark.parametrize("stage", ["own_length", "embed"])
def test_json_that_a_stranger_sealed_is_refused_where_no_value_of_ours_can_be(stage, body):
    with pytest.raises(results.DamagedResultError):
        results.decode(stage, "k", b'{"sha256":"%s","result":%s}' % (results._seal(stage, "k", body), body))


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_lies_in_place_of_a_result_it_is_absent_and_can_be_written_again(cache, damage):
    cache.remember("embed", "0a1b", {"blob": A})
    damage(path_of(cache, "embed", "0a1b"))

    assert cache.result("embed", "0a1b") is None
    cache.remember("embed", "0a1b", {"blob": B})
    assert cache.result("embed", "0a1b") == {"blob": B}


def test_a_file_in_place_of_a_folder_of_results_gives_way(cache):
    path = path_of(cache, "embed", "0a1b")
    path.parent.parent.mkdir(parents=True)
    path.parent.write_bytes(b"")

    assert cache.result("embed", "0a1b") is None
    cache.remember("embed", "0a1b", {"blob": B})
    assert cache.result("embed", "0a1b") == {"blob": B}


def test_a_result_longer_than_any_of_ours_is_not_read_whole(cache):
    cache.remember("embed", "0a1b", {"blob": A})
    with path_of(cache, "embed", "0a1b").open("r+b") as stream:
        stream.truncate(1 << 40)  # a terabyte of holes

    assert cache.result("embed", "0a1b") is None


# --- older results


def older(cache, stage, key, said):
    path = path_of(cache, stage, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical_json(said).encode())
    return path


def test_a_result_of_an_older_version_is_found_anew_and_verify_says_so(cache, capsys):
    older(cache, "embed", "0a1b", {"blob": A})
    older(cache, "prepare", "0a1b", {"audio": AUDIO})

    assert cache.result("embed", "0a1b") is None
    code, lines, _ = run(cache, capsys, "verify")
    assert (code, lines) == (
        0, ["2 results are of an older version of tutti; the next build finds them anew", "2 files, all sound"],
    )  # fmt: skip


def test_an_archive_with_a_published_md5_is_found_again_by_its_content(cache):
    blob = cache.receive([b"archive"], label="x", sha256=None, md5=None)
    older(cache, "download", f"md5-{blob.md5}", {"sha256": blob.sha256})

    assert known_by_md5(URL, blob.md5, cache) == blob.sha256
    assert cache.result("download", f"md5-{blob.md5}") == {"sha256": blob.sha256}


def test_a_blob_that_has_not_the_published_md5_is_not_the_archive_whatever_a_result_says(cache):
    blob = cache.receive([b"another"], label="x", sha256=None, md5=None)
    older(cache, "download", digest_of(URL), {"url": URL, "sha256": blob.sha256})

    assert known_by_md5(URL, "0" * 32, cache) is None


# --- checksums of first use


def test_a_checksum_of_first_use_is_remembered(cache):
    assert seen_first(URL, cache) is None
    cache.remember("first_use", digest_of(URL), {"url": URL, "sha256": A})
    assert seen_first(URL, cache) == A


def test_a_checksum_of_first_use_of_an_older_version_still_holds(cache):
    older(cache, "first_use", digest_of(URL), {"url": URL, "sha256": A})

    assert seen_first(URL, cache) == A


def test_a_damaged_checksum_of_first_use_lets_nothing_else_in_until_it_is_forgotten(cache, capsys):
    cache.remember("first_use", digest_of(URL), {"url": URL, "sha256": A})
    path = path_of(cache, "first_use", digest_of(URL))
    path.write_bytes(path.read_bytes().replace(A.encode(), B.encode()))

    for _ in range(2):
        with pytest.raises(IntegrityError, match=r"at its first use is damaged .*pipelines.cache forget http://host"):
            seen_first(URL, cache)
        code, lines, _ = run(cache, capsys, "verify")
        assert (code, "it stays" in lines[0]) == (3, True)
    assert run(cache, capsys, "forget", URL)[0] == 0
    assert seen_first(URL, cache) is None


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage not in (to_nothing, to_nowhere)])
def test_whatever_lies_in_place_of_a_checksum_of_first_use_nothing_is_believed(cache, damage, capsys):
    cache.remember("first_use", digest_of(URL), {"url": URL, "sha256": A})
    damage(path_of(cache, "first_use", digest_of(URL)))

    with pytest.raises(IntegrityError, match="at its first use is damaged"):
        seen_first(URL, cache)
    assert run(cache, capsys, "forget", URL)[0] == 0
    assert seen_first(URL, cache) is None


# --- the commands


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage is not to_nothing])
def test_verify_finds_damage_of_any_kind_puts_it_aside_and_gc_and_list_go_on(cache, capsys, damage):
    upstream, audio = prepared(cache)
    (result,) = (cache.root / "stages" / "prepare").rglob("*.json")
    for path in (cache.blob_path(upstream), cache.blob_path(audio.blob), result):
        damage(path)

    for command in (("list",), ("gc", "--older-than", "0", "--dry-run")):
        assert run(cache, capsys, *command)[0] == 0
    code, lines, _ = run(cache, capsys, "verify")
    assert (code, len(lines)) == (3, 4)
    assert run(cache, capsys, "verify") == (0, ["0 files, all sound"], "")
    assert run(cache, capsys, "gc", "--older-than", "0")[0] == 0
    assert prepared(cache) == (upstream, audio)
    assert run(cache, capsys, "verify")[0] == 0


def test_a_digest_that_is_none_names_no_blob(cache):
    for name in ("../../etc/passwd", "", "A" * 64, "a" * 63, "a" * 64 + "/x"):
        with pytest.raises(IntegrityError, match="is no sha256"):
            cache.blob_path(name)
