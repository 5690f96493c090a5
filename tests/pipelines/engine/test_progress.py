"""Progress: every worker writes its tallies, the driver adds them up."""

import json
import os
import socket

import pytest

from tutti.pipelines.engine.progress import (
    Reporter,
    Tally,
    Transfer,
    progress_line,
    read_tallies,
    read_transfers,
    reporter,
)


def counted(folder, stage, done, reasons=(), flush=True):
    own = Reporter(folder)
    with own.measure(stage) as tally:
        tally.done += done
        tally.rejected.update(reasons)
    if flush:
        own.flush()
    return own


def test_what_a_worker_counted_is_read_by_the_driver(tmp_path):
    counted(tmp_path, "clean", 3, ["silent", "silent", "too_short"])

    tallies = read_tallies(tmp_path)

    assert tallies["clean"].done == 3
    assert tallies["clean"].rejected == {"silent": 2, "too_short": 1}
    assert tallies["clean"].seconds > 0
    assert os.listdir(tmp_path) == [f"{socket.gethostname()}-{os.getpid()}.json"]


def test_tallies_of_all_workers_are_added(tmp_path):
    (tmp_path / "1.json").write_text(
        json.dumps({"stages": {"prepare": [5, {}, 1.5], "clean": [4, {"silent": 1}, 0.5]}, "transfers": {}})
    )
    (tmp_path / "2.json").write_text(json.dumps({"stages": {"prepare": [7, {"undecodable": 2}, 2.0]}, "transfers": {}}))

    tallies = read_tallies(tmp_path)

    assert {name: (t.done, dict(t.rejected), t.seconds) for name, t in tallies.items()} == {
        "prepare": (12, {"undecodable": 2}, 3.5),
        "clean": (4, {"silent": 1}, 0.5),
    }


@pytest.mark.parametrize("content", ["", '{"prepare": [5,'])
def test_a_file_that_a_worker_is_writing_is_left_for_the_next_look(tmp_path, content):
    (tmp_path / "1.json").write_text(content)
    (tmp_path / "2.json").write_text('{"stages": {"clean": [1, {}, 0.1]}, "transfers": {}}')

    assert list(read_tallies(tmp_path)) == ["clean"]


def test_what_is_written_later_and_shorter_is_read_without_a_rest_of_the_former(tmp_path):
    counting = Reporter(tmp_path)
    counting.transfer("a file with a long name", 5, 1_000_000)
    counting.flush()
    counting.transfer("a file with a long name", 1_000_000, 1_000_000)  # done: it is shown no more

    assert read_transfers(tmp_path) == {}


def test_a_disk_that_takes_no_tallies_stops_nothing(tmp_path):
    (tmp_path / "folder").write_text("a file where the folder should be")
    counting = Reporter(tmp_path / "folder")

    with counting.measure("prepare") as tally:
        tally.done += 1
    counting.flush()

    assert tally.done == 1


def test_before_anything_began_there_is_nothing(tmp_path):
    assert read_tallies(tmp_path / "not there") == {}


def test_busy_time_is_the_sum_of_all_blocks_and_survives_an_error(tmp_path):
    own = Reporter(tmp_path)

    def fail():
        with own.measure("clean") as tally:
            tally.done += 1
            raise ValueError("stop")

    for _ in range(2):
        with pytest.raises(ValueError, match="stop"):
            fail()
    own.flush()

    assert read_tallies(tmp_path)["clean"].done == 2


def test_a_process_has_one_reporter_for_a_folder(tmp_path):
    assert reporter(tmp_path / "a") is reporter(tmp_path / "a")
    assert reporter(tmp_path / "a") is not reporter(tmp_path / "b")


def test_the_line_shows_stages_rate_and_rejects_the_most_frequent_first():
    tallies = {
        "prepare": Tally(120),
        "clean": Tally(110),
    }
    tallies["prepare"].rejected.update(["undecodable"])
    tallies["clean"].rejected.update(["silent", "silent"])

    assert progress_line(tallies, 10.0) == (
        "   10 s | prepare 120 > clean 110 | 12 clips/s | rejected 2 silent, 1 undecodable"
    )


def test_the_line_before_anything_began():
    assert progress_line({}, 0.4) == "    0 s | starting"


def test_the_line_of_a_download_has_no_rate():
    assert progress_line({"download": Tally(2)}, 5.0) == "    5 s | download 2"


# --- files on their way


def test_a_file_on_its_way_is_shown_until_all_of_it_came(tmp_path):
    own = Reporter(tmp_path)
    own.transfer("IRMAS-TrainingData.zip", 1_000_000, 4_000_000)
    own.flush()

    assert read_transfers(tmp_path) == {"IRMAS-TrainingData.zip": Transfer(1_000_000, 4_000_000, 0.0)}

    own.transfer("IRMAS-TrainingData.zip", 4_000_000, 4_000_000)

    assert read_transfers(tmp_path) == {}


def test_the_rate_of_a_resumed_file_counts_only_what_came_now(tmp_path):
    own = Reporter(tmp_path)
    own.transfer("a.zip", 9_000_000_000, None)
    own.transfer("a.zip", 9_000_000_000, None)
    own.flush()

    assert read_transfers(tmp_path)["a.zip"].bytes_per_s == 0.0


@pytest.mark.parametrize(
    ("transfer", "shown"),
    [
        (Transfer(1_200_000_000, 2_500_000_000, 20e6), "1200 of 2500 MB, 20.0 MB/s, 65 s left"),
        (Transfer(0, 2_500_000_000, 0.0), "0 of 2500 MB, 0.0 MB/s"),
        (Transfer(7_000_000, None, 1e6), "7 MB, 1.0 MB/s"),
    ],
)
def test_the_line_of_a_transfer_has_bytes_rate_and_time_left(transfer, shown):
    assert progress_line({}, 5.0, {"a.tgz": transfer}) == f"    5 s | starting | a.tgz {shown}"
