"""Songs of one's own with a command that builds them, and edits that happen while a build runs."""

import contextlib
import csv
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tutti.datasets.manifest import read_manifest
from tutti.pipelines.build.__main__ import main

RATE = 16_000


class Mine:
    """Thirty songs in `folder`; builds go to `tmp_path/out`."""

    def __init__(self, folder: Path, tmp_path: Path, songs: int = 30) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.tmp_path = folder, tmp_path
        self.rows: dict[str, tuple[Any, ...]] = {}
        for number in range(songs):
            self.add(f"song{number:02d}", number)
        self.label()

    def add(self, name: str, seed: int, group: str | None = None, length_s: int = 2) -> None:
        rng = np.random.default_rng(seed)
        soundfile.write(self.folder / f"{name}.wav", 0.1 * rng.standard_normal(length_s * RATE), RATE)
        self.rows[f"{name}.wav"] = (group or name, seed % 2, 1 - seed % 2)

    def label(self, *more_classes: str) -> None:
        with (self.folder / "labels.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["path", "group", "flute", "cello", *more_classes])
            writer.writerows([path, *row, *("1" for _ in more_classes)] for path, row in sorted(self.rows.items()))

    def run(self, *flags: str, output: str = "out") -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a build."""
        places = ("--output", str(self.tmp_path / output), "--cache-dir", str(self.tmp_path / "cache"))
        said, noted = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(noted):
            code = main(["--dataset", "folder", "--data-from", str(self.folder), *places, *flags])
        return code, said.getvalue(), noted.getvalue()

    def build(self, *flags: str, output: str = "out") -> dict[str, Any]:
        """Summary of a build that must succeed; what it noted is under "notes"."""
        code, said, noted = self.run(*flags, output=output)
        assert code == 0, noted
        summary: dict[str, Any] = json.loads(said.splitlines()[-1])
        return summary | {"notes": noted}

    def splits(self) -> dict[str, str | None]:
        return {
            row["recording"].rpartition("/")[2]: row.get("split")
            for row in read_manifest(self.tmp_path / "out").clip_rows()
        }

    @contextlib.contextmanager
    def meanwhile(self, edit: Callable[[], object], output: str = "out") -> Iterator[None]:
        """Carry out an edit once, as soon as the build within the block has planned and begins its work."""

        def work() -> None:
            deadline_s = time.monotonic() + 60
            while not (self.tmp_path / output / ".building").is_dir() and time.monotonic() < deadline_s:
                time.sleep(0.001)
            edit()

        editor = threading.Thread(target=work)
        editor.start()
        try:
            yield
        finally:
            editor.join()


def keep_time(path: Path, edit: Callable[[], object]) -> None:
    """Edit a file and give it its old modification time again."""
    before = path.stat()
    edit()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
