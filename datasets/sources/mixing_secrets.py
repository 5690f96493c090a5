"""Mixing Secrets: the free multitrack library of Cambridge Music Technology, song by song as you downloaded it.

    my-songs/<Artist>_<Title>_Full.zip                        raw tracks as the library serves them: 01_Kick.wav, ...
    my-songs/<Artist>_<Title>_Full/01_Kick.wav                the same, unpacked; any folder of numbered tracks
    my-songs/<Title>_Full_Preview.mp3                         the mix, where you have it; else the sum of the tracks
    my-songs/Audio/<id>/<id>_STEMS/08_Bass.wav                Medley format (Gururani and Lerch), with a
    my-songs/Audio/<id>/<id>_METADATA.yaml                    metadata file each, there or elsewhere

In Medley format the metadata say what each file is; the authors' copy with normalized names (`metadata/`) is preferred.
Of raw tracks the names do (`datasets/songs/raw_tracks.py`), unless there are metadata of that song. `Piano.L.wav` and
`Piano.R.wav` are one track. Names that no rule knows, rooms and effects have no labels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tutti.datasets.record import Recording
from tutti.datasets.songs import rows as song_rows
from tutti.datasets.songs.raw_tracks import sound_of_name
from tutti.datasets.songs.rows import Corpus
from tutti.datasets.source import Card, Input, LocalFile, RemoteFile
from tutti.datasets.taxonomy import INSTRUMENTS as TAXONOMY

CARD = Card(
    title="Mixing Secrets multitrack library (you bring the files)",
    homepage="https://cambridge-mt.com/ms/mtk/",
    license="https://cambridge-mt.com/ms/mtk/",
    license_url="https://cambridge-mt.com/ms/mtk/",
    license_note="For education and research; nothing commercial without the artist's leave, and not to be passed on.",
    citation="Senior: Mixing Secrets for the Small Studio, 2011; Gururani, Lerch: Mixing Secrets, ISMIR 2017",
    num_clips=0,
    size_bytes=0,
)

REMOTES: tuple[RemoteFile, ...] = ()
INSTRUMENTS = tuple(TAXONOMY)
PARTITIONS = ("all",)
TRACKS = True
_NAMES = ("mtkdata.cambridgemusictechnology.co.uk", "multitracks.cambridge-mt.com", "previews.cambridge-mt.com")
HOSTS = (*_NAMES, *(f"www.{name}" for name in _NAMES))  # of the library: a mirror's folders of them are read


@dataclass(frozen=True)
class Config:
    """Folders of the songs."""

    roots: tuple[str, ...] = field(default=(), metadata={"local": True})  # never part of a digest or a manifest


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read one recording per stem or raw track, and per mix.

    Raises:
        UsageError: no folder is given, or none holds a song of the library.
    """
    del files  # nothing was downloaded
    yield from song_rows.recordings(CORPUS, config.roots)


def inputs(config: Config) -> tuple[Input, ...]:
    """Hash the metadata of the songs, and count those without audio.

    Raises:
        UsageError: no folder is given, or none holds a song of the library.
    """
    return song_rows.inputs(CORPUS, config.roots)


def partition_of(key: str) -> str:
    """Name the one division that there is."""
    del key
    return "all"


CORPUS = Corpus("mixing_secrets", "Mixing Secrets", CARD.license, sound_of_name, partition_of)
