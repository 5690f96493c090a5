"""A mirror with the sample's MTG-Jamendo and nothing else."""

import hashlib
from functools import cache
from pathlib import Path

from tutti.datasets.sample import jamendo

SEED, TRACKS = 0, 9


@cache
def files(num_tracks: int = TRACKS) -> dict[str, bytes]:
    """The mirror's files by their paths."""
    tracks = jamendo.plan_tracks(SEED, num_tracks)
    return dict(jamendo.files_of(tracks, map(jamendo.render_track, tracks)))


def write_mirror(root: Path) -> None:
    """Write the mirror, with its SHA256SUMS."""
    for name, content in files().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files().items()))
    (root / "SHA256SUMS").write_text(sums)
