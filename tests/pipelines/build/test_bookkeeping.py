"""Bookkeeping after a version is published: whatever is odd there, a good build stays a good build."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from medley_songs import put
from own_songs import Mine

from tutti.pipelines.acquisition.own_index import index_of
from tutti.pipelines.build.job import looked_again
from tutti.pipelines.build.looks import Input, Look, Looks
from tutti.pipelines.build.unchanged import STATE
from tutti.pipelines.engine.progress import read_tallies

NONE = ("--embedder", "none")


@pytest.fixture
def mine(tmp_path: Path) -> Mine:
    return Mine(tmp_path / "mine", tmp_path, songs=4)


def odd_links(folder: Path) -> None:
    """Links that no row names: to nowhere, to itself, in a circle, to a folder above."""
    (folder / "later.wav").symlink_to("nowhere")
    (folder / "later").symlink_to("/nowhere/at/all", target_is_directory=True)
    (folder / "itself.wav").symlink_to("itself.wav")
    (folder / "one").symlink_to("other")
    (folder / "other").symlink_to("one")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe.wav")


def test_links_that_no_row_names_are_no_error_and_the_next_build_has_nothing_to_do(mine):
    odd_links(mine.folder)
    first = mine.build(*NONE)

    assert (first["clips"]["kept"], first["changed"]) == (4, True)
    assert mine.build(*NONE)["changed"] is False


def test_links_that_appear_while_a_build_runs_leave_its_version_there(mine):
    with mine.meanwhile(lambda: odd_links(mine.folder)):
        first = mine.build(*NONE)

    assert first["clips"]["kept"] == 4
    assert mine.build(*NONE)["clips"]["kept"] == 4


def test_odd_links_in_folders_of_archives_and_videos_are_passed_over(tmp_path):
    put(tmp_path, "songs/a.zip")
    odd_links(tmp_path / "songs")
    index_of.cache_clear()

    assert index_of((str(tmp_path / "songs"),)).others == ("0/a.zip",)


@pytest.mark.parametrize("point", [f"written:*{STATE}", f"renamed:*{STATE}"])
def test_what_a_build_notes_of_itself_may_fail(mine, monkeypatch, point):
    monkeypatch.setenv("TUTTI_FAIL_AT", point)
    first = mine.build(*NONE)

    assert "the next build will not be answered from memory" in first["notes"]
    assert (mine.tmp_path / "out" / "current").exists()


def test_inputs_that_cannot_be_looked_at_again_leave_the_looks_unsettled(capsys):
    wanted = Input("files", "/data")
    before = Looks({wanted: Look("x", {"": "y"})}, 0, settled=True)

    def gone(_: Input) -> Look:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "/data")

    assert looked_again(before, gone) == (replace(before, settled=False), [])
    assert "the inputs cannot be looked at again" in capsys.readouterr().err
    assert looked_again(before, lambda _: before.of[wanted]) == (before, [])


def test_tallies_of_another_form_are_passed_over(tmp_path):
    (tmp_path / "a.json").write_text('{"stages": {"prepare": [3, {"silent": 1}, 0.5, 2]}}')
    (tmp_path / "b.json").write_text('{"stages": {"prepare": 3}}')
    (tmp_path / "c.json").write_text("[]")
    (tmp_path / "d.json").write_text('{"stages')

    assert read_tallies(tmp_path)["prepare"].done == 3
