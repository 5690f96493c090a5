"""The sample's folder of what a user has: songs of MedleyDB and Mixing Secrets with something planted, and no more."""

from collections.abc import Iterable
from pathlib import Path

from medley_songs import put

from tutti.datasets.sample import medleydb, mixing_secrets
from tutti.datasets.sample.encode import Member, write_zip

MEDLEY, SECRETS, RAW = medleydb.plan_songs(0, 0), mixing_secrets.plan_songs(0, 0), mixing_secrets.plan_raw(0)


def write_user_folder(top: Path) -> Path:
    """Write `user/MedleyDB` and `user/MixingSecrets` as the sample does, and return `user`."""
    for plan in MEDLEY:
        _write(top, medleydb.render_song(plan))
    _write(top, medleydb.metadata_without_audio(0))
    for plan in SECRETS:
        _write(top, mixing_secrets.render_song(plan))
    full = [f"{plan.key}_Full" for plan in RAW]
    folder = top / mixing_secrets.FOLDER
    packed = ((f"{full[0]}/{name}", content) for name, content in mixing_secrets.render_raw(RAW[0]))
    write_zip(folder / f"{full[0]}.zip", packed)
    _write(folder / full[1], mixing_secrets.render_raw(RAW[1]))
    return top / "user"


def _write(top: Path, files: Iterable[Member]) -> None:
    for path, content in files:
        put(top, path, content)
