"""Names, licences and messages of strangers reach a terminal, a log or a report as text, never as orders."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT

NAMES = (
    "red\x1b[31m.wav", "title\x1b]0;owned\x07.wav", "csi\x9b2J.wav", "cod\u202eexe.wav", "hid\u200bden.wav",
    "back\x08\x08.wav", "two\rlines.wav", "Dvořák 弦.wav",
)  # fmt: skip
GROUP, LICENSE = "session \x1b[2J\u2066", "CC0\x1b[5m\x85 forged"
# All of Cc but line feeds, bidi controls, zero width: as UTF-8, for files are searched as bytes.
ACTS = re.compile(
    rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight tones whose names act on terminals."""
    root = tmp_path_factory.mktemp("stranger")
    rows = ["path,group,license,piano,cello"]
    for number, name in enumerate(NAMES):
        seconds = np.arange(5 * 16_000) / 16_000
        tone = 0.3 * np.sin(2 * np.pi * (220 + 50 * number) * seconds)
        soundfile.write(root / "tone.wav", tone, 16_000)
        (root / "tone.wav").rename(root / name)
        quoted = [f'"{cell}"' for cell in (name, f"{GROUP}{number}", LICENSE)]
        rows.append(",".join([*quoted, str(number % 2), str(1 - number % 2)]))
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8", newline="")
    return root


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, timeout=300, env={**os.environ, **env}
    )


def acting(content: bytes) -> list[bytes]:
    return [content[max(0, found.start() - 30) : found.end() + 10] for found in ACTS.finditer(content)]


@pytest.mark.slow
def test_no_command_lets_a_name_act_on_the_terminal(folder: Path, tmp_path: Path):
    def build(*more: str) -> subprocess.CompletedProcess[bytes]:
        return run(
            "pipelines.build", "--dataset", "folder", "--data-from", str(folder), "--embedder", "none",
            "--set", "clean.min_duration_s=1", "--output", str(tmp_path / "out"),
            "--cache-dir", str(tmp_path / "cache"), "--parent", "none", *more,
        )  # fmt: skip

    ended = [build(), build("--exclude", str(folder / "labels.csv")), build("--dry-run")]
    versions = sorted((tmp_path / "out" / "versions").iterdir())
    out = str(tmp_path / "out")
    for command in (
        ["pipelines.verify", out],
        ["pipelines.info", out],
        ["pipelines.versions", "list", out],
        ["pipelines.diff", str(versions[0]), str(versions[-1])],
        ["pipelines.export", out, "--format", "csv", "--output", str(tmp_path / "csv")],
        ["pipelines.export", out, "--format", "csv", "--output", str(tmp_path / "x"), "--license-allow", "CC\x1b[5m"],
        ["pipelines.cache", "--cache-dir", str(tmp_path / "cache"), "list"],
        ["train.run", "--data", out, "--recipe", "no\x1b[31mname"],
        ["train.predict", "--run", str(tmp_path / "none\x9b"), str(folder)],
    ):
        ended.append(run(*command))

    assert ended[0].returncode == 0, ended[0].stderr.decode()
    for done in ended:
        assert acting(done.stdout) == [], done.args
        assert acting(done.stderr) == [], done.args
        assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert acting((tmp_path / "out" / "run.log").read_bytes()) == []
    assert any(b"\\x1b" in done.stdout + done.stderr for done in ended)
