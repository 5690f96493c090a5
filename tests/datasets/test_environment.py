"""Values of the environment are read in one place; what is none is a usage error, told in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from tutti.datasets.environment import default_cache_folder, named_folder, switch, whole_number
from tutti.datasets.errors import UsageError
from tutti.datasets.scores.soundfonts import find_soundfonts
from tutti.pipelines.acquisition.http_answers import check_allowed
from tutti.pipelines.build.__main__ import main
from tutti.train.pretrained import is_offline


@pytest.mark.parametrize(
    ("value", "is_on"), [("1", True), ("true", True), ("ON", True), ("0", False), ("", False), ("False", False)]
)
def test_a_switch_is_the_same_for_everybody_who_asks(monkeypatch, value: str, is_on: bool):
    monkeypatch.setenv("TUTTI_OFFLINE", value)

    assert switch("TUTTI_OFFLINE") == is_offline() == is_on
    if is_on:
        with pytest.raises(UsageError, match="TUTTI_OFFLINE is set"):
            check_allowed("https://zenodo.org/")
    else:
        check_allowed("https://zenodo.org/")


@pytest.mark.parametrize("value", ["2", "offline", "1 0", "\x1b[31m"])
def test_a_switch_that_says_neither_is_not_guessed(monkeypatch, tmp_path: Path, capsys, value: str):
    monkeypatch.setenv("TUTTI_OFFLINE", value)

    for ask in (is_offline, lambda: check_allowed("https://zenodo.org/")):
        with pytest.raises(UsageError, match=r"^TUTTI_OFFLINE='.*': expected 1 or 0$"):
            ask()
    arguments = ["--dataset", "audioset", "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    assert main(arguments) == 2
    assert capsys.readouterr().err.endswith(": expected 1 or 0\n")


def test_a_cache_folder_that_cannot_be_one_is_a_usage_error_of_every_command(monkeypatch, tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for value in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300), "~nobody-of-this-name/cache"):
        monkeypatch.setenv("TUTTI_CACHE_DIR", str(value))
        with pytest.raises(UsageError, match=r"^TUTTI_CACHE_DIR='.*': is no folder and cannot become one"):
            default_cache_folder()
    done = subprocess.run([sys.executable, "-m", "pipelines.cache", "list"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n"), "TUTTI_CACHE_DIR" in done.stderr) == (2, 1, True), done.stderr


def test_a_folder_may_be_new_and_begin_with_the_home(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUTTI_CACHE_DIR", "~/new/cache")

    assert named_folder("TUTTI_CACHE_DIR") == tmp_path / "new" / "cache"


@pytest.mark.parametrize("value", ["two", "-1", "1.5", "1e3", "٣"])
def test_a_number_that_is_none_is_a_usage_error(monkeypatch, value: str):
    monkeypatch.setenv("WORLD_SIZE", value)

    with pytest.raises(UsageError, match=f"^WORLD_SIZE='{value}': expected a whole number$"):
        whole_number("WORLD_SIZE", 1)


def test_soundfonts_that_name_nothing_are_a_usage_error(monkeypatch):
    monkeypatch.setenv("TUTTI_SOUNDFONTS", ":")

    with pytest.raises(UsageError, match="names no file and no folder"):
        find_soundfonts()
