"""The reader of ESC-50, and a dataset of noises that training takes."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import built

from tutti.augment.noises import read_noises
from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import ABSENT, Clip
from tutti.datasets.source import LocalFile
from tutti.datasets.sources import esc50
from tutti.datasets.sources.esc50 import Config

HEADER = "filename,fold,target,category,esc10,src_file,take"
ROWS = (
    "1-100032-A-0.wav,1,0,dog,True,100032,A",
    "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A",
    "2-100038-B-14.wav,2,14,chirping_birds,False,100038,B",
    "5-9032-A-0.wav,5,24,coughing,True,9032,A",
)


def bark(seed: int) -> bytes:
    signal = np.zeros(5 * 44_100)
    signal[:22_050] = 0.3 * np.random.default_rng(seed).standard_normal(22_050)
    stream = io.BytesIO()
    soundfile.write(stream, signal, 44_100, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def write_zip(path: Path, *rows: str, header: str = HEADER, without: tuple[str, ...] = ()) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ESC-50-master/meta/esc50.csv", "\n".join((header, *rows)) + "\n")
        archive.writestr("ESC-50-master/README.md", "no audio")
        for index, row in enumerate(rows):
            if (name := row.partition(",")[0]) not in without:
                archive.writestr(f"ESC-50-master/audio/{name}", bark(index))
    return path


def clips(path: Path) -> list[Clip]:
    file = LocalFile("esc50", esc50.REMOTES[0], path, "ab" * 32, path.stat().st_size, "first use")
    return [clip for recording in esc50.read({"archive": file}, Config()) for clip in recording.clips]


def test_a_recording_is_a_clip_in_which_no_instrument_plays(tmp_path: Path) -> None:
    dog, birds, more_birds, cough = clips(write_zip(tmp_path / "esc.zip", *ROWS))
    assert (dog.id, dog.partition, dog.group) == ("esc50/1-100032-A-0.wav@0", "fold1", "esc50/100032")
    assert birds.group == more_birds.group
    assert {label.presence for label in {**dog.labels, **(dog.hierarchy or {})}.values()} == {ABSENT}
    assert set(dog.labels) - set(cough.labels) == {"voice"}
    assert set(dog.hierarchy or {}) - set(cough.hierarchy or {}) == {"voice", "singer"}


def test_a_row_without_audio_is_rejected_and_the_others_go_on(tmp_path: Path) -> None:
    found = clips(write_zip(tmp_path / "esc.zip", *ROWS, without=("1-100038-A-14.wav",)))
    assert [clip.defect and clip.defect.reason for clip in found] == [None, "missing_audio", None, None]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ((ROWS[0], ROWS[0]), HEADER, r"esc50.csv:3: '1-100032-A-0.wav' stands twice"),
        (("../x.wav,1,0,dog,True,1,A",), HEADER, r"esc50.csv:2: '../x.wav' of fold '1'"),
        (("x.wav,6,0,dog,True,1,A",), HEADER, r"'x.wav' of fold '6'; expected 1 to 5"),
        (ROWS, HEADER.replace("fold", "part"), r"has no column 'fold'"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(
    rows: tuple[str, ...], header: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match=message):
        clips(write_zip(tmp_path / "esc.zip", *rows, header=header))


def test_a_built_dataset_of_noises_is_read_for_training(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    path = write_zip(mirror / "github.com/karolpiczak/ESC-50/archive/master.zip", *ROWS)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (mirror / "SHA256SUMS").write_text(f"{digest}  {path.relative_to(mirror)}\n")
    places = ("--mirror", str(mirror), "--cache-dir", str(tmp_path / "cache"), "--output", str(tmp_path / "esc50"))
    summary = built("--dataset", "esc50", "--embedder", "none", *places)
    assert summary["clips"]["kept"] == 4
    noises = read_noises(tmp_path / "esc50", 22_050)
    assert [len(noise) for noise in noises] == [110_250] * 4
    assert all(0.01 < float(noise.abs().max()) <= 1.0 for noise in noises)
