"""NSynth for tests: a mirror that holds nothing else, and archives from hand-written descriptions."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conftest import built, once

from tutti.datasets.sample import nsynth as sample
from tutti.datasets.sample.encode import write_tgz
from tutti.datasets.source import LocalFile
from tutti.datasets.sources import nsynth

FOLDER = "download.magenta.tensorflow.org/datasets/nsynth"


def write_mirror(root: Path, *, num_pitches: int) -> None:
    """The sample's NSynth with so many pitches of each of its 18 instruments, at two velocities."""
    sums = []
    for part, jobs in sample.plan_notes(0, num_pitches).items():
        name = f"{FOLDER}/nsynth-{part}.jsonwav.tar.gz"
        write_tgz(root / name, sample.tgz_members(part, jobs, map(sample.render_note, jobs)))
        sums.append(f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n")
    (root / "SHA256SUMS").write_text("".join(sums))


def build_once(session_folder: Path, labels: str = "instruments") -> Path:
    """The output root of recipe `nsynth`, built from such a mirror; read it, do not write to it."""
    mirror = once(session_folder, "nsynth-mirror", lambda root: write_mirror(root, num_pitches=3))
    places = ("--mirror", str(mirror), "--cache-dir", str(session_folder / "nsynth-cache"))

    def make(output: Path) -> None:
        built("--dataset", "nsynth", *places, "--set", f"nsynth.labels={labels}", "--output", str(output))

    return once(session_folder, f"nsynth-{labels}", make)


def fields_of(note_str: str, number: int = 7) -> dict[str, Any]:
    """What upstream says of a note."""
    instrument, pitch, velocity = note_str.rsplit("-", 2)
    family, source, _ = instrument.rsplit("_", 2)
    return {
        "note": 1,
        "note_str": note_str,
        "instrument": number,
        "instrument_str": instrument,
        "pitch": int(pitch),
        "velocity": int(velocity),
        "sample_rate": 16_000,
        "qualities": [0] * 10,
        "qualities_str": [],
        "instrument_family": nsynth.FAMILIES.index(family),
        "instrument_family_str": family,
        "instrument_source": nsynth.SOURCES.index(source),
        "instrument_source_str": source,
    }


def described(*note_strs: str) -> bytes:
    """examples.json of some notes."""
    return json.dumps({note_str: fields_of(note_str) for note_str in note_strs}).encode()


def archive_files(folder: Path, **parts: Mapping[str, bytes]) -> dict[str, LocalFile]:
    """Plain tars as the download stage hands them over; a part that is not given holds one note of its own.

    Args:
        folder: where they are written.
        parts: part -> members below `nsynth-<part>/`.
    """
    files = {}
    for remote in nsynth.REMOTES:
        alone = f"vocal_acoustic_00{('train', 'valid', 'test').index(remote.name)}-060-127"
        default = {"examples.json": described(alone), f"audio/{alone}.wav": b""}
        path = folder / f"{remote.name}.tar"
        with tarfile.open(path, "w") as archive:
            for name, content in parts.get(remote.name, default).items():
                info = tarfile.TarInfo(f"nsynth-{remote.name}/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        files[remote.name] = LocalFile("nsynth", remote, path, "ab" * 32, path.stat().st_size, "mirror")
    return files
