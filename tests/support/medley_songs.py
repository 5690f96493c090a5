"""Songs in Medley format, as MedleyDB and Mixing Secrets have them; their audio is empty unless given."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tutti.datasets.record import PRESENT, Clip, Recording, Track
from tutti.datasets.sources import medleydb

Instrument = str | Sequence[str]


def put(root: Path, path: str, content: bytes = b"") -> Path:
    """Write a file below a folder."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def metadata(
    key: str,
    stems: Mapping[str, Instrument],
    files: Mapping[str, str] | None = None,
    artist: str | None = None,
    title: str | None = None,
    has_bleed: str = "no",
    origin: str = "Independent Artist",
    version: str = "1.2",
    album: str = "''",
) -> str:
    """Format the YAML of a song."""
    prefix, _, rest = key.partition("_")
    lines = [
        f"album: {album}",
        f"artist: {prefix if artist is None else artist}",
        f"has_bleed: {has_bleed}",
        f"mix_filename: {key}_MIX.wav",
        f"origin: {origin}",
        "producer: []",
        "website: null",
        f"title: {rest if title is None else title}",
        f"version: '{version}'",
        "stems:",
    ]
    for name, instrument in stems.items():
        file = (files or {}).get(name, f"{key}_STEM_{name[1:]}.wav")
        listed = instrument if isinstance(instrument, str) else f"[{', '.join(instrument)}]"
        lines += [
            f"  {name}:",
            "    component: ''",
            f"    filename: {file}",
            f"    instrument: {listed}",
            "    raw: {}",
        ]
    return "\n".join(lines) + "\n"


def write_song(
    folder: Path,
    key: str,
    stems: Mapping[str, Instrument],
    audio: Mapping[str, bytes] | None = None,
    files: Mapping[str, str] | None = None,
    mix: bytes | None = b"",
    yaml_in: Path | None = None,
    **said: str,
) -> Path:
    """Write a song with its metadata.

    Args:
        folder: gets a folder of the song's name.
        key: the song's id.
        stems: their instruments.
        audio: contents of the files of stems by their names; None: an empty file for each stem.
        files: of stems, where they have other names than MedleyDB's.
        mix: its content; None: there is no mix.
        yaml_in: folder of the metadata; None: beside the audio.
        said: more for `metadata`.
    """
    home = folder / key
    named = {name: (files or {}).get(name, f"{key}_STEM_{name[1:]}.wav") for name in stems}
    for file, content in (audio if audio is not None else dict.fromkeys(named.values(), b"")).items():
        put(home, f"{key}_STEMS/{file}", content)
    if mix is not None:
        put(home, f"{key}_MIX.wav", mix)
    put(yaml_in or home, f"{key}_METADATA.yaml", metadata(key, stems, files, **said).encode())
    return home


# --- what the reader of MedleyDB makes of songs


def recordings_of(*roots: Path) -> dict[str, Recording]:
    """Recordings by the id of their clip."""
    found = list(medleydb.read({}, medleydb.Config(roots=tuple(map(str, roots)))))
    assert all(len(recording.clips) == 1 for recording in found)
    return {recording.clips[0].id: recording for recording in found}


def clips_of(*roots: Path) -> dict[str, Clip]:
    return {id: recording.clips[0] for id, recording in recordings_of(*roots).items()}


def present(clip: Clip) -> tuple[list[str], list[str]]:
    """Classes and outputs that sound."""
    classes, outputs = (
        [name for name, label in (labels or {}).items() if label.presence == PRESENT]
        for labels in (clip.labels, clip.hierarchy)
    )
    return classes, outputs


def track_of(clip: Clip) -> Track:
    assert clip.track is not None
    return clip.track


def reasons(clips: dict[str, Clip]) -> dict[str, str]:
    return {id: clip.defect.reason for id, clip in clips.items() if clip.defect is not None}
