"""Archives of Slakh for tests: folders of tracks with metadata and files of any content, as plain tars."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tutti.datasets.record import PRESENT, Clip
from tutti.datasets.source import LocalFile
from tutti.datasets.sources import slakh

ROOT = "slakh2100_flac_redux"
PIANO = {
    "audio_rendered": True, "inst_class": "Piano", "integrated_loudness": -20.5, "is_drum": False,
    "midi_program_name": "Acoustic Grand Piano", "midi_saved": True, "plugin_name": "grand_piano.nkm", "program_num": 0,
}  # fmt: skip
NO_PATCH = PIANO | {"audio_rendered": False, "midi_saved": False, "plugin_name": "None", "program_num": 97}


def stem(program: int, plugin: str, **fields: Any) -> dict[str, Any]:
    return PIANO | {"program_num": program, "plugin_name": plugin, "midi_program_name": f"program {program}"} | fields


def metadata(uuid: str = "a" * 32, **stems: Any) -> bytes:
    fields = {"UUID": uuid, "audio_dir": "Volumes/disk/Track00001/stems", "midi_dir": "../../MIDI", "target_peak": -1.0}
    return yaml.safe_dump(
        {**fields, "stems": {name: dict(entry) for name, entry in stems.items()}}
    ).encode()  # no aliases


def track(
    number: int, content: bytes | None, *stems: str, folder: str = "train/", mix: bool = True
) -> dict[str, bytes]:
    """The members of one track; stems as S00, ..., all of them without content."""
    place = f"{ROOT}/{folder}Track{number:05}"
    files = {f"{place}/stems/{name}.flac": b"" for name in stems} | {f"{place}/all_src.mid": b""}
    files |= {f"{place}/mix.flac": b""} if mix else {}
    return files if content is None else files | {f"{place}/metadata.yaml": content}


def present(clip: Clip) -> set[str]:
    """What is present of both levels."""
    return {name for name, label in {**clip.labels, **(clip.hierarchy or {})}.items() if label.presence == PRESENT}


def archive_of(path: Path, members: Mapping[str, bytes], name: str = "redux") -> dict[str, LocalFile]:
    with tarfile.open(path, "w") as tar:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    remote = next(remote for remote in slakh.REMOTES if remote.name == name)
    return {name: LocalFile("slakh", remote, path, "0" * 64, path.stat().st_size, "md5")}
