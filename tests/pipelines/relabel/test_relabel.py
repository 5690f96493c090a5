"""Relabelling: what is drawn, what a person meets in the page, and what is computed from the answers."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import signals
from conftest import ROOT
from dataset_fixture import reseal, write_manifest
from rows import clip, human, stored

from tutti.datasets.audio import encode, pcm_sha256, to_int16
from tutti.datasets.manifest import file_sha256
from tutti.datasets.shard import read_shard, write_shard
from tutti.datasets.shard_info import ShardInfo
from tutti.pipelines.relabel.__main__ import main
from tutti.pipelines.relabel.page import Answer, Answers, Candidate, Sample, draw
from tutti.pipelines.relabel.statistics import agreement, hamming, kappa, share, statistics

INSTRUMENTS = ("cello", "flute", "piano", "voice")
CLIPS = {  # id -> known labels; the first id would break out of a careless page
    "a/</script><!--<b>x@0": human(cello=1, flute=0, piano=0, voice=0),
    "a/song [cel] Café@1500": human(cello=1, voice=0),
    "b/y@0": human(flute=1, cello=0, piano=0, voice=0),
    "b/z@0": human(flute=1, piano=1, cello=0, voice=0),
    "b/silent@0": human(cello=0),
}


def write_dataset(folder, clips=CLIPS, split="train"):
    """A version folder with one shard: each clip is a tone of its own, 0.4 s long."""
    rows = []
    for number, (name, labels) in enumerate(sorted(clips.items())):
        tone = to_int16(signals.sine(0.4, frequency_hz=300 + 100 * number, sample_rate=16_000)[0])
        audio = stored(pcm_sha256=pcm_sha256(tone), num_samples=len(tone))
        rows.append((clip(name, labels=labels, audio=audio, split=split), encode(tone, 16_000, "flac")))
    path = folder / "data" / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    with path.open("wb") as stream:
        count, content = write_shard(stream, rows, INSTRUMENTS, sample_rate=16_000, rows_per_group=2)
    info = ShardInfo(f"data/{path.name}", split, count, path.stat().st_size, file_sha256(path), content)
    write_manifest(folder, [info], INSTRUMENTS)
    return folder


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "data")


@pytest.fixture
def sample(data, tmp_path):
    assert main(["sample", "--data", str(data), "--output", str(tmp_path / "relabel")]) == 0
    return tmp_path / "relabel"


def candidate(name, labels):
    return Candidate(name, "a", "train", "CC0-1.0", "0" * 64, labels, Path("x"), 0)


def made(labels):
    """A sample in memory."""
    return Sample(Path("relabel"), "d" * 64, {}, INSTRUMENTS, labels)


def heard(*instruments, **fields):
    return Answer(frozenset(instruments), **fields)


def answers_file(folder, answers, path=None, **changes):
    """A file as the page saves it."""
    digest = hashlib.sha256((folder / "sample.json").read_bytes().rstrip(b"\n")).hexdigest()
    empty = {"instruments": [], "none": False, "unsure": False, "note": "", "seen": False, "revealed": False}
    content = {"schema_version": 1, "sample": digest, "annotator": "anna", **changes}
    content["answers"] = {name: {**empty, **answer} for name, answer in answers.items()}
    path = path or folder / "answers-anna.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


# --- drawing


def test_rare_classes_choose_first_and_each_clip_is_drawn_once():
    clips = [candidate(f"a/{n}@0", {"flute": 1, "cello": 0}) for n in range(3)]
    clips += [candidate("a/both@0", {"flute": 1, "cello": 1})]

    drawn = draw(clips, INSTRUMENTS, 2, seed=0)

    assert sorted(name for _, name in drawn) == ["cello", "flute", "flute"]
    assert [each.id for each, name in drawn if name == "cello"] == ["a/both@0"]
    assert len({each.id for each, _ in drawn}) == 3


def test_the_draw_is_by_digest_of_seed_and_id_whatever_the_order_of_the_rows():
    clips = [candidate(f"a/{n}@0", {"cello": 1}) for n in range(50)]
    by_digest = sorted((f"a/{n}@0" for n in range(50)), key=lambda i: hashlib.sha256(f'[7,"{i}"]'.encode()).hexdigest())

    assert [each.id for each, _ in draw(clips[::-1], INSTRUMENTS, 9, seed=7)] == by_digest[:9]
    assert [each.id for each, _ in draw(clips, INSTRUMENTS, 9, seed=8)] != by_digest[:9]


def test_a_sample_holds_the_clips_with_a_present_class_their_audio_and_what_was_given(data, sample):
    content = json.loads((sample / "sample.json").read_text(encoding="utf-8"))
    stored_audio = {row["id"]: row["audio"]["bytes"] for row in read_shard(next(data.glob("data/*")))}

    assert sorted(each["id"] for each in content["clips"]) == sorted(set(CLIPS) - {"b/silent@0"})
    assert [each["audio"] for each in content["clips"]] == [f"audio/00{n}.flac" for n in (1, 2, 3, 4)]
    assert {each["id"]: (sample / each["audio"]).read_bytes() for each in content["clips"]} == {
        each["id"]: stored_audio[each["id"]] for each in content["clips"]
    }
    unknown = next(each for each in content["clips"] if each["id"] == "a/song [cel] Café@1500")
    assert unknown["labels"] == {"cello": 1, "voice": 0}
    manifest = json.loads((data / "manifest" / "manifest.json").read_text())
    assert (content["root_digest"], content["per_class"], content["seed"]) == (manifest["root_digest"], 27, 0)


def test_the_same_command_writes_the_same_bytes(data, sample, tmp_path):
    main(["sample", "--data", str(data), "--output", str(tmp_path / "again")])

    files = sorted(path.relative_to(sample) for path in sample.rglob("*.*"))
    assert len(files) == 6
    assert [(sample / path).read_bytes() for path in files] == [(tmp_path / "again" / p).read_bytes() for p in files]


def test_only_the_named_source_is_drawn_from_and_a_shortage_is_told(data, tmp_path, capsys):
    output = tmp_path / "b"

    assert main(["sample", "--data", str(data), "--output", str(output), "--source", "b", "--per-class", "2"]) == 0
    assert {each["id"] for each in json.loads((output / "sample.json").read_text())["clips"]} == {"b/y@0", "b/z@0"}
    assert capsys.readouterr().err.splitlines() == [
        "note: cello: 0 of 2 clips, there are no more",
        "note: flute: 1 of 2 clips, there are no more",
        "note: piano: 1 of 2 clips, there are no more",
        "note: voice: 0 of 2 clips, there are no more",
    ]


def test_a_folder_that_exists_is_never_touched(data, sample, capsys):
    path = answers_file(sample, {})
    before = path.read_bytes()

    assert main(["sample", "--data", str(data), "--output", str(sample), "--seed", "1"]) == 2
    assert "exists, perhaps with answers; move it away" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--split", "trian"], 2, "--split trian: not there (did you mean 'train'?); there are train"),
        (["--source", "c"], 2, "--source c: not there; there are a, b"),
        (["--per-class", "0"], 2, "--per-class 0: expected a positive number"),
        (["--data", "/nowhere"], 2, "/nowhere: no dataset here"),
    ],
)
def test_a_sample_that_cannot_be_drawn_says_why_and_leaves_nothing(data, tmp_path, capsys, arguments, code, complaint):
    assert main(["sample", "--data", str(data), "--output", str(tmp_path / "new"), *arguments]) == code
    assert complaint in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_damaged_audio_is_an_integrity_error_and_leaves_nothing(data, tmp_path, capsys):
    path = next(data.glob("data/*"))
    content = path.read_bytes()
    assert content.count(b"fLaC") == 5
    path.write_bytes(content.replace(b"fLaC", b"fLaX"))

    assert main(["sample", "--data", str(data), "--output", str(tmp_path / "new")]) == 3
    assert "its bytes are not those that the manifest lists" in capsys.readouterr().err
    reseal(data)
    assert main(["sample", "--data", str(data), "--output", str(tmp_path / "new")]) == 3
    assert "audio cannot be decoded (neither FLAC nor WAV)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_killed_command_leaves_no_folder_and_the_next_one_makes_it(data, tmp_path):
    command = [sys.executable, "-m", "pipelines.relabel", "sample", "--data", data, "--output", tmp_path / "new"]
    crash = {**os.environ, "TUTTI_CRASH_AT": "written:*/index.html"}

    assert subprocess.run(command, cwd=ROOT, env=crash, capture_output=True).returncode == -9
    assert not (tmp_path / "new").exists()
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    assert (tmp_path / "new" / "index.html").is_file()


# --- statistics


def test_the_papers_counts_give_the_papers_shares():
    """Lumen 2023 prints 47.97 %, 13.85 % and 159 / 127 / 10 clips with 1 / 2 / 3 instruments, so of 296 clips."""
    said = [heard("cello")] * 142 + [heard("flute")] * 17 + [heard("flute", "piano")] * 24
    said += [heard("cello", "piano")] * 103 + [heard("cello", "flute", "piano")] * 10
    clips = {f"a/{number:03d}@0": answer for number, answer in enumerate(said)}

    found = statistics(made({key: {"cello": 1} for key in clips}), Answers("anna", clips))

    assert found["clips"] == 296
    assert found["readings"]["unknown_as_absent"]["exactly_right"]["share"] == 0.4797
    assert found["original_missing"]["share"] == 0.1385
    assert found["num_instruments"] == {"1": 159, "2": 127, "3": 10}
    assert found["multi_instrument"]["share"] == 0.4628
    assert found["readings"]["unknown_as_absent"]["hamming"] == {"0": 142, "1": 103, "2": 27, "3": 24}
    assert found["readings"]["known_only"]["hamming"] == {"0": 255, "1": 41}
    assert found["readings"]["known_only"]["exactly_right"]["count"] == 255
    assert found["per_class"]["cello"] == {
        "given_present": 296, "present_confirmed": 255, "given_absent": 0, "absent_but_heard": 0,
        "unknown": 0, "unknown_but_heard": 0,
    }  # fmt: skip
    assert found["per_class"]["piano"]["unknown_but_heard"] == 137


@pytest.mark.parametrize(("reading", "distance"), [("known_only", 2), ("unknown_as_absent", 3)])
def test_an_unknown_label_is_compared_only_where_it_is_read_as_absent(reading, distance):
    assert hamming({"cello": 1, "flute": 0, "piano": 0}, {"flute", "voice"}, INSTRUMENTS, reading) == distance


def test_one_of_two_original_labels_that_is_not_heard_counts_as_missing():
    labels = {"a/x@0": {"cello": 1, "flute": 1}, "a/y@0": {"cello": 1, "flute": 0}}
    clips = {"a/x@0": heard("cello", unsure=True), "a/y@0": heard("cello", "flute", revealed=True)}

    found = statistics(made(labels), Answers("anna", clips))

    assert (found["original_missing"]["count"], found["unsure"], found["revealed"]) == (1, 1, 1)
    assert found["per_class"]["flute"]["absent_but_heard"] == 1


def test_a_share_has_its_wilson_interval_and_of_nothing_there_is_none():
    assert share(5, 10) == {"count": 5, "share": 0.5, "interval": [0.2366, 0.7634]}  # (n p + z2/2 +- ...) / (n + z2)
    assert share(0, 0) == {"count": 0, "share": None, "interval": None}


def test_kappa_is_that_of_the_textbook_table():
    one, other = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15

    assert kappa(one, other) == 0.4  # observed .7, by chance .5
    assert kappa([0, 0], [0, 0]) is None


def test_agreement_counts_only_clips_that_both_answered():
    one = Answers("anna", {"a@0": heard("cello"), "b@0": heard("flute"), "c@0": heard("voice")})
    other = Answers("bert", {"b@0": heard("flute"), "a@0": heard("flute"), "d@0": heard()})

    found = agreement(one, other, ("cello", "flute"))

    assert (found["annotators"], found["clips"], found["same"]["count"]) == (["anna", "bert"], 2, 1)
    assert found["per_class"] == {"cello": 0.0, "flute": 0.0}
    assert found["kappa"] == 0.0  # one, other: cello 1 0 / 0 0, flute 0 1 / 1 1


# --- answers


CELLO, CAFE = "a/</script><!--<b>x@0", "a/song [cel] Café@1500"


def test_answers_that_an_editor_saved_are_read_and_in_utf16_are_named(sample, capsys):
    path = answers_file(sample, {CELLO: {"instruments": ["cello"]}})
    text = path.read_text(encoding="utf-8")
    path.write_bytes(text.encode("utf-8-sig"))
    assert main(["score", "--sample", str(sample), "--json"]) == 0

    path.write_bytes(text.encode("utf-16"))
    assert main(["score", "--sample", str(sample), "--json"]) == 2
    assert "is UTF-16, not UTF-8; save it as UTF-8" in capsys.readouterr().err


def test_score_prints_the_statistics_of_every_person_and_their_agreement(sample, capsys):
    answers_file(sample, {CELLO: {"instruments": ["cello"]}, CAFE: {"instruments": ["flute"], "unsure": True}})
    other = {CELLO: {"instruments": ["cello", "piano"]}}
    answers_file(sample, other, sample / "answers-bert.json", annotator="bert")
    capsys.readouterr()

    assert main(["score", "--sample", str(sample), "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert [(one["annotator"], one["clips"], one["unsure"]) for one in report["annotators"]] == [
        ("anna", 2, 1), ("bert", 1, 0),
    ]  # fmt: skip
    anna = report["annotators"][0]["readings"]
    assert anna["known_only"]["exactly_right"]["count"] == 1
    assert anna["known_only"]["hamming"] == {"0": 1, "1": 1}
    assert anna["unknown_as_absent"]["hamming"] == {"0": 1, "2": 1}
    assert (report["agreement"][0]["clips"], report["agreement"][0]["same"]["count"]) == (1, 0)


def test_overrides_hold_what_people_changed_but_not_what_they_doubt_or_dispute(sample, tmp_path, capsys):
    answers_file(
        sample,
        {
            CELLO: {"instruments": ["piano"], "note": "muted, I think"},
            CAFE: {"instruments": ["flute"], "unsure": True},
            "b/y@0": {"instruments": ["flute", "voice"]},
        },
    )
    other = {"b/y@0": {"instruments": ["flute"]}}
    answers_file(sample, other, sample / "answers-bert.json", annotator="bert")
    path = tmp_path / "overrides.csv"

    assert main(["score", "--sample", str(sample), "--overrides", str(path)]) == 0

    assert path.read_text(encoding="utf-8").splitlines() == [
        "id,instrument,presence,note",
        f'{CELLO},cello,0,"was present; muted, I think"',
        f'{CELLO},piano,1,"was absent; muted, I think"',
    ]
    assert "disputed, stays as given: voice in b/y@0" in capsys.readouterr().err
    assert main(["score", "--sample", str(sample), "--overrides", str(path)]) == 2  # perhaps edited by hand


@pytest.mark.parametrize("changes", [{"sample": "0" * 64}, {"schema_version": 2}])
def test_answers_to_another_sample_or_of_another_version_are_refused(sample, changes, capsys):
    answers_file(sample, {CELLO: {"instruments": ["cello"]}}, **changes)

    assert main(["score", "--sample", str(sample)]) == 2
    assert "answers to another sample" in capsys.readouterr().err


def test_an_answer_that_names_no_class_or_clip_of_the_sample_is_refused(sample, capsys):
    answers_file(sample, {CELLO: {"instruments": ["kazoo"]}})
    assert main(["score", "--sample", str(sample)]) == 2
    assert "'kazoo' is no class of the sample" in capsys.readouterr().err

    answers_file(sample, {"a/nobody@0": {"instruments": ["cello"]}})
    assert main(["score", "--sample", str(sample)]) == 2
    assert "a/nobody@0 is no clip of the sample" in capsys.readouterr().err


# --- the page


def test_the_page_opens_in_a_browser_and_no_text_of_a_corpus_becomes_markup(sample):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    page = subprocess.run([*command, f"file://{sample}/index.html"], capture_output=True, text=True, timeout=60).stdout

    assert "Clip 1 of 4" in page
    assert ">Cello<" in page
    assert "<b>x@0" not in page.replace("\\u003cb", "")
    assert "song [cel]" not in page.partition("</main>")[0].partition("<main")[2]  # an id would tell the answer
