"""Assembly of the sample: renders every item, in processes or not, and writes the mirror.

Planning is done here and is cheap; workers turn plans into files' bytes; the results are taken in
the order of the plan, so that nothing depends on which worker was faster.
"""

import hashlib
import json
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tutti.datasets.errors import UsageError
from tutti.datasets.files import write_file
from tutti.datasets.sample import audioset, irmas, jamendo, medleydb, mixing_secrets, nsynth, openmic2018, slakh
from tutti.datasets.sample import songs as own_songs
from tutti.datasets.sample.encode import Member, write_tgz, write_zip

_IRMAS_FOLDER = "zenodo.org/records/1290750/files"
_OPENMIC_FILE = "zenodo.org/records/1432913/files/openmic-2018-v1.0.0.tgz"
_NSYNTH_FOLDER = "download.magenta.tensorflow.org/datasets/nsynth"
_SLAKH_FILE = "zenodo.org/records/4599666/files/slakh2100_flac_redux.tar.gz"
_BABYSLAKH_FILE = "zenodo.org/records/4603870/files/babyslakh_16k.tar.gz"
_UNDECLARED_UTF8 = 1  # index of the test zip whose names lack the UTF-8 flag
_NOT_SUMMED = ("README.md", "TRUTH.json", "SHA256SUMS")
_MAX_SCALE = 100  # song numbers have four digits
_MAX_WORKERS = 16
_README = """# The built-in sample

A miniature of the corpora in the layouts of their publishers, synthesized: no recording, nobody's rights.
`SHA256SUMS` was written last: where it is, the sample is complete. `TRUTH.json` says what was planted:
wrong labels, duplicates, silent, short, undecodable and missing items, and what really sounds.
"""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class SampleSize:
    """Numbers of songs, tracks, videos, pitches. Planted defects come on top, once, at any size."""

    train_songs_per_class: int = 8
    train_parts: int = 3
    test_songs: int = 24
    test_excerpts: int = 3
    openmic_tracks: int = 72
    videos_per_class: int = 3
    foreign_rows: int = 90
    nsynth_pitches: int = 6
    slakh_songs: int = 12
    own_songs: int = 6  # of MedleyDB and of Mixing Secrets each, besides those with something planted; 0: none at all
    jamendo_tracks: int = 24

    def times(self, scale: int) -> "SampleSize":
        """Multiply the numbers of songs, tracks and videos."""
        return SampleSize(
            train_songs_per_class=self.train_songs_per_class * scale,
            train_parts=self.train_parts,
            test_songs=self.test_songs * scale,
            test_excerpts=self.test_excerpts,
            openmic_tracks=self.openmic_tracks * scale,
            videos_per_class=self.videos_per_class * scale,
            foreign_rows=self.foreign_rows * scale,
            nsynth_pitches=self.nsynth_pitches * scale,
            slakh_songs=self.slakh_songs * scale,
            own_songs=self.own_songs * scale,
            jamendo_tracks=self.jamendo_tracks * scale,
        )


def sample_key(seed: int = 0, scale: int = 1) -> str:
    """Name a cached sample by a digest of the generator's source code and its arguments, 16 hex digits."""
    digest = hashlib.sha256(json.dumps([seed, scale]).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def write_sample_mirror(
    root: Path, *, seed: int = 0, scale: int = 1, workers: int | None = None, size: SampleSize | None = None
) -> None:
    """Write the mirror below `root`, which is created; SHA256SUMS is written last.

    The bytes depend on (seed, scale, size) and on the versions of the encoders only.

    Args:
        root: a folder; files of an earlier sample in it are replaced.
        seed: another seed gives other audio throughout.
        scale: factor on the number of songs, tracks and videos.
        workers: processes; None: one per processor, 1: none but this one.
        size: numbers at scale 1; None: the default sample.

    Raises:
        UsageError: scale or workers out of range.
        OSError: `root` cannot be written.
    """
    if not 1 <= scale <= _MAX_SCALE:
        raise UsageError(f"scale {scale}: expected 1 to {_MAX_SCALE}")
    if workers is not None and workers < 1:
        raise UsageError(f"workers {workers}: expected at least 1")
    processes = workers or min(os.cpu_count() or 1, _MAX_WORKERS)
    total = (size or SampleSize()).times(scale)
    root.mkdir(parents=True, exist_ok=True)
    (root / "SHA256SUMS").unlink(missing_ok=True)
    with _renderer(processes) as executor:
        tracks = _write_openmic(root, seed, total, executor, processes)
        videos = _write_audioset(root, seed, total, executor, processes)
        train = _write_irmas(root, seed, total, executor, processes)
        _write_nsynth(root, seed, total, executor, processes)
        songs = _write_slakh(root, seed, total, executor, processes)
        tagged = _write_jamendo(root, seed, total, executor, processes)
        own = _write_own_songs(root, seed, total, executor, processes)
    write_file(root / "README.md", _README.encode(), durable=False)
    planted = _truth(train, tracks, videos, songs) | own | tagged
    truth = json.dumps(planted, indent=1, sort_keys=True, ensure_ascii=False)
    write_file(root / "TRUTH.json", f"{truth}\n".encode(), durable=False)
    _write_sums(root)


@contextmanager
def _renderer(processes: int) -> Iterator[Executor | None]:
    """Start a pool of fresh interpreters, or yield None for the own process."""
    if processes == 1:
        yield None
        return
    executor = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _in_order(
    render: Callable[[_In], _Out], jobs: Iterable[_In], executor: Executor | None, processes: int
) -> Iterator[_Out]:
    """Render in the order of `jobs`, at most a few results ahead, so that memory does not grow with the scale."""
    if executor is None:
        yield from map(render, jobs)
        return
    pending: deque[Future[_Out]] = deque()
    for job in jobs:
        pending.append(executor.submit(render, job))
        if len(pending) > 4 * processes:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _write_openmic(
    root: Path, seed: int, size: SampleSize, executor: Executor | None, processes: int
) -> tuple[openmic2018.Track, ...]:
    tracks = openmic2018.plan_tracks(seed, size.openmic_tracks)
    rendered = _in_order(openmic2018.render_track, tracks, executor, processes)
    write_tgz(root / _OPENMIC_FILE, openmic2018.tgz_members(tracks, rendered))
    return tracks


def _write_audioset(
    root: Path, seed: int, size: SampleSize, executor: Executor | None, processes: int
) -> audioset.AudioSetPlan:
    plan = audioset.plan(seed, size.videos_per_class, size.foreign_rows)
    for path, content in audioset.table_files(plan):
        write_file(root / path, content, durable=False)
    for path, content in _in_order(audioset.render_video, plan.videos, executor, processes):
        write_file(root / path, content, durable=False)
    return plan


def _write_irmas(root: Path, seed: int, size: SampleSize, executor: Executor | None, processes: int) -> irmas.TrainPlan:
    folder = root / _IRMAS_FOLDER
    train = irmas.plan_train(seed, size.train_songs_per_class, size.train_parts)
    rendered = _in_order(irmas.render_song, train.songs, executor, processes)
    write_zip(folder / f"{irmas.TRAIN_FOLDER}.zip", irmas.train_members(train, rendered, seed))
    for index, songs in enumerate(irmas.plan_test(seed, size.test_songs, size.test_excerpts)):
        rendered = _in_order(irmas.render_song, songs, executor, processes)
        members = (member for song in rendered for member in song)
        write_zip(folder / f"IRMAS-TestingData-Part{index + 1}.zip", members, declare_utf8=index != _UNDECLARED_UTF8)
    return train


def _write_nsynth(root: Path, seed: int, size: SampleSize, executor: Executor | None, processes: int) -> None:
    for part, jobs in nsynth.plan_notes(seed, size.nsynth_pitches).items():
        rendered = _in_order(nsynth.render_note, jobs, executor, processes)
        path = root / _NSYNTH_FOLDER / f"nsynth-{part}.jsonwav.tar.gz"
        write_tgz(path, nsynth.tgz_members(part, jobs, rendered))


def _write_slakh(
    root: Path, seed: int, size: SampleSize, executor: Executor | None, processes: int
) -> tuple[slakh.Track, ...]:
    tracks = slakh.plan_tracks(seed, size.slakh_songs)
    rendered = _in_order(slakh.render_track, tracks, executor, processes)
    write_tgz(root / _SLAKH_FILE, slakh.redux_members(tracks, rendered))
    baby = _in_order(slakh.render_track, tracks[: slakh.BABY_TRACKS], executor, processes)
    write_tgz(root / _BABYSLAKH_FILE, slakh.baby_members(tracks[: slakh.BABY_TRACKS], baby))
    return tracks


def _write_own_songs(
    root: Path, seed: int, size: SampleSize, executor: Executor | None, processes: int
) -> dict[str, object]:
    """Write the folder of what a user would have, and return what was planted there."""
    if not size.own_songs:
        return {}
    medley = medleydb.plan_songs(seed, size.own_songs)
    secrets, raw = mixing_secrets.plan_songs(seed, size.own_songs), mixing_secrets.plan_raw(seed)
    for render, plans in ((medleydb.render_song, medley), (mixing_secrets.render_song, secrets)):
        for files in _in_order(render, plans, executor, processes):
            _write_files(root, files)
    _write_files(root, medleydb.metadata_without_audio(seed))
    folder = root / mixing_secrets.FOLDER
    packed, unpacked = _in_order(mixing_secrets.render_raw, raw, executor, processes)
    full = [f"{plan.key}_Full" for plan in raw]
    write_zip(folder / f"{full[0]}.zip", ((f"{full[0]}/{name}", content) for name, content in packed))
    _write_files(folder / full[1], unpacked)
    return {"medleydb": own_songs.truth(medley), "mixing_secrets": own_songs.truth((*secrets, *raw))}


def _write_files(root: Path, files: Iterable[Member]) -> None:
    for path, content in files:
        write_file(root / path, content, durable=False)


def _write_jamendo(
    root: Path, seed: int, size: SampleSize, executor: Executor | None, processes: int
) -> dict[str, object]:
    """Write tracks and tables, and return what was planted there."""
    tracks = jamendo.plan_tracks(seed, size.jamendo_tracks)
    if not tracks:
        return {}
    for path, content in jamendo.files_of(tracks, _in_order(jamendo.render_track, tracks, executor, processes)):
        write_file(root / path, content, durable=False)
    return {"mtg_jamendo": jamendo.truth(tracks)}


def _truth(
    train: irmas.TrainPlan,
    tracks: tuple[openmic2018.Track, ...],
    videos: audioset.AudioSetPlan,
    songs: tuple[slakh.Track, ...],
) -> dict[str, object]:
    """List what was planted where; instruments by their IRMAS codes."""
    guitars = {}
    for track in tracks:
        heard = [code for code in track.instruments if code in ("gac", "gel")]
        if heard and any(answer.instrument == "guitar" for answer in track.answers):
            guitars[track.key] = heard
    return {
        "audioset_mislabelled": videos.mislabelled,
        "duplicates": [list(train.duplicate), sorted(videos.duplicate)],
        "gone": list(videos.gone),
        "guitars": guitars,
        "irmas_background": train.background,
        "irmas_mislabelled": train.mislabelled,
        "openmic_instruments": {track.key: list(track.instruments) for track in tracks},
        "short": [train.short],
        "slakh": slakh.truth(songs),
        "silent": [train.silent, videos.silent],
        "undecodable": [
            train.undecodable,
            next(track.key for track in tracks if track.truncated),
            videos.undecodable,
        ],
    }


def _write_sums(root: Path) -> None:
    """Write SHA256SUMS over all files but the ones about the sample itself; complete or not at all."""
    lines = []
    for path in sorted((path for path in root.rglob("*") if path.is_file()), key=lambda path: path.as_posix()):
        name = path.relative_to(root).as_posix()
        if name not in _NOT_SUMMED:
            with path.open("rb") as stream:
                lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {name}\n")
    write_file(root / "SHA256SUMS", "".join(lines).encode())
