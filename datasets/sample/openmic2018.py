"""The sample's OpenMIC-2018: ten-second Ogg clips in a tgz, with partial crowd labels.

Key = `<FMA track, six digits>_<start in ms>`; two tracks per artist and an artist-disjoint split.
Only a few of the twenty classes are asked per clip: what was not asked is unknown, not absent.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.sample.dsp import SAMPLE_RATE, rng_for
from tutti.datasets.sample.encode import Member, ogg_bytes
from tutti.datasets.sample.instruments import DRUMS
from tutti.datasets.sample.irmas import CODES
from tutti.datasets.sample.music import Song
from tutti.datasets.sample.room import Pcm

CLASSES = (
    "accordion", "banjo", "bass", "cello", "clarinet", "cymbals", "drums", "flute", "guitar", "mallet_percussion",
    "mandolin", "organ", "piano", "saxophone", "synthesizer", "trombone", "trumpet", "ukulele", "violin", "voice",
)  # fmt: skip
COLUMNS = (
    "track_id", "album_id", "album_title", "album_url", "artist_id", "artist_name", "artist_url", "artist_website",
    "license_image_file", "license_image_file_large", "license_parent_id", "license_title", "license_url", "tags",
    "track_bit_rate", "track_comments", "track_composer", "track_copyright_c", "track_copyright_p",
    "track_date_created", "track_date_recorded", "track_disc_number", "track_duration", "track_explicit",
    "track_explicit_notes", "track_favorites", "track_file", "track_genres", "track_image_file", "track_information",
    "track_instrumental", "track_interest", "track_language_code", "track_listens", "track_lyricist", "track_number",
    "track_publisher", "track_title", "track_url", "sample_key", "start_time",
)  # fmt: skip
CLIP_FRAMES = 441_000
_ROOT = "openmic-2018"
_OTHERS = ("synthesizer", DRUMS, "bass", "mallet_percussion")
_START_STEP_MS = 3840  # upstream's starts are multiples of VGGish's step of four examples
_TRACKS_PER_ARTIST = 2
_LICENSES = (
    ("Attribution 4.0 International", "https://creativecommons.org/licenses/by/4.0/"),
    ("Attribution-NonCommercial-ShareAlike 3.0", "https://creativecommons.org/licenses/by-nc-sa/3.0/"),
    ("Attribution-NonCommercial-NoDerivatives 4.0", "https://creativecommons.org/licenses/by-nc-nd/4.0/"),
    ("CC0 1.0 Universal", "https://creativecommons.org/publicdomain/zero/1.0/"),
    ("Attribution-ShareAlike", "https://creativecommons.org/licenses/by-sa/3.0/"),
)
_GENRES = (("76", "Experimental Pop"), ("17", "Folk"), ("4", "Jazz"), ("5", "Classical"), ("15", "Electronic"))


@dataclass(frozen=True)
class Answer:
    """One row of the label table."""

    instrument: str  # one of CLASSES
    relevance: float  # 0.5 + confidence / 2 where present, 0.5 - confidence / 2 where not
    num_responses: int


@dataclass(frozen=True)
class Track:
    """One clip."""

    seed: int
    key: str
    track_id: int
    start_s: float
    artist: int
    partition: str  # "train" or "test"
    gains_db: tuple[tuple[str, float], ...]  # players, by their names in INSTRUMENTS
    answers: tuple[Answer, ...]
    truncated: bool

    @property
    def instruments(self) -> tuple[str, ...]:
        """IRMAS codes of what really sounds."""
        return tuple(sorted(CODES[name] for name, _ in self.gains_db if name in CODES))

    @property
    def member(self) -> str:
        """Path in the archive."""
        return f"{_ROOT}/audio/{self.key[:3]}/{self.key}.ogg"


@dataclass(frozen=True)
class RenderedTrack:
    """A clip's file and its ten seconds of features."""

    member: Member
    features: NDArray[np.int64]  # (10, 128), 0 to 255


def openmic_class(instrument: str) -> str:
    """Translate one of our instruments to upstream's name, which does not tell guitars apart."""
    return "guitar" if instrument.endswith("guitar") else instrument


def plan_tracks(seed: int, num_tracks: int) -> tuple[Track, ...]:
    """Plan clips whose first player goes round all instruments, in both partitions."""
    leads = [*CODES, *_OTHERS]
    turns = {"train": 0, "test": 0}
    cut = int(rng_for(seed, "openmic2018", "cut").integers(num_tracks))
    tracks = []
    for index in range(num_tracks):
        artist = index // _TRACKS_PER_ARTIST
        partition = "test" if artist % 4 == 1 else "train"
        lead = leads[turns[partition] % len(leads)]
        turns[partition] += 1
        track_id = 46 + index * (150_000 // num_tracks)
        rng = rng_for(seed, "openmic2018", track_id)
        start_ms = _START_STEP_MS * int(rng.integers(60))
        count = int(rng.choice((0, 1, 2), p=(0.35, 0.4, 0.25)))
        more = [name for name in leads if name != lead]
        players = [lead, *(str(name) for name in rng.choice(more, size=count, replace=False))]
        gains = tuple((name, float(rng.uniform(-5, 0))) for name in players)
        tracks.append(
            Track(
                seed=seed,
                key=f"{track_id:06}_{start_ms}",
                track_id=track_id,
                start_s=start_ms / 1000,
                artist=artist,
                partition=partition,
                gains_db=gains,
                answers=_answers(rng, players),
                truncated=index == cut,
            )
        )
    return tuple(tracks)


def _answers(rng: np.random.Generator, players: list[str]) -> tuple[Answer, ...]:
    """Draw questions about what sounds, and about four or five instruments that do not, mostly of the eleven.

    Upstream asks about two a clip, and a third of its known labels are present. So few questions on so
    few clips would leave a test split that a constant prediction wins.
    """
    present = list(dict.fromkeys(openmic_class(name) for name in players))
    heard = {*present, "cymbals"} if DRUMS in present else set(present)  # a kit has cymbals: don't ask
    silent = [str(name) for name in rng.permutation([name for name in CLASSES if name not in heard])]
    ours = [name for name in silent if name in CODES][: int(rng.integers(3, 5))]
    other = next(name for name in silent if name not in CODES)
    asked = [(name, True) for name in present] + [(name, False) for name in [*ours, other]]
    answers = []
    for instrument, sounds in asked:
        confidence = float(rng.beta(4, 1.5))
        relevance = 0.5 + confidence / 2 if sounds else 0.5 - confidence / 2
        answers.append(Answer(instrument, relevance, int(rng.choice((3, 3, 5)))))
    return tuple(sorted(answers, key=lambda answer: answer.instrument))


def render_track(track: Track) -> RenderedTrack:
    """Render ten seconds of a track as Ogg Vorbis."""
    song = Song(track.seed, f"openmic2018/{track.key}", tuple(name for name, _ in track.gains_db))
    pcm = song.excerpt("", CLIP_FRAMES, dict(track.gains_db))
    content = ogg_bytes(pcm, serial=track.track_id)
    if track.truncated:
        content = content[: len(content) // 2]  # no end page, and a page cut in two
    return RenderedTrack((track.member, content), _features(pcm))


def _features(pcm: Pcm) -> NDArray[np.int64]:
    """Compute a stand-in for VGGish embeddings (10, 128): log energy in 128 bands, 60 Hz to 12 kHz, per second."""
    mono = pcm.mean(axis=1).reshape(-1, SAMPLE_RATE)
    power = np.abs(np.fft.rfft(mono * np.hanning(SAMPLE_RATE), axis=1)) ** 2
    edges = np.unique(np.geomspace(60, 12_000, 129).astype(np.int64))  # one bin per Hz
    level_db = 10 * np.log10(np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1) + 1e-9)
    return np.clip(np.rint(2.5 * (level_db - 50)), 0, 255).astype(np.int64)


def tgz_members(tracks: tuple[Track, ...], rendered: Iterator[RenderedTrack]) -> Iterator[Member]:
    """Yield the whole archive; `rendered` holds the tracks in order."""
    features = []
    for result in rendered:
        features.append(result.features)
        yield result.member
    yield f"{_ROOT}/acknowledgement.md", b"Synthesized miniature; every recording is artificial.\n"
    class_map = {name: index for index, name in enumerate(CLASSES)}
    yield f"{_ROOT}/class-map.json", json.dumps(class_map, indent=4).encode()
    yield f"{_ROOT}/license-cc-by.txt", b"Creative Commons Attribution 4.0 International\n"
    yield f"{_ROOT}/openmic-2018-aggregated-labels.csv", _labels_csv(tracks)
    yield f"{_ROOT}/openmic-2018-metadata.csv", _metadata_csv(tracks)
    yield f"{_ROOT}/openmic-2018.npz", _npz(tracks, np.stack(features))
    for partition in ("test", "train"):
        keys = [track.key for track in tracks if track.partition == partition]
        yield f"{_ROOT}/partitions/split01_{partition}.csv", "".join(f"{key}\n" for key in keys).encode()


def _labels_csv(tracks: tuple[Track, ...]) -> bytes:
    lines = ["sample_key,instrument,relevance,num_responses"]
    for track in tracks:
        lines += [f"{track.key},{a.instrument},{a.relevance!r},{a.num_responses}" for a in track.answers]
    return "\n".join([*lines, ""]).encode()


def _metadata_csv(tracks: tuple[Track, ...]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for index, track in enumerate(tracks):
        rng = rng_for(track.seed, "openmic2018", "metadata", track.track_id)
        license_title, license_url = _LICENSES[int(rng.integers(len(_LICENSES)))]
        genre_id, genre = _GENRES[int(rng.integers(len(_GENRES)))]
        information = f'<p>Recorded "as is", in one room,\nby two people</p>\n<p>Track {index}</p>'
        writer.writerow(
            {
                "track_id": track.track_id,
                "album_id": 1000 + track.artist,
                "album_title": f"Album, the {track.artist}th",
                "artist_id": track.artist,
                "artist_name": f"Sample, Artist {track.artist}",
                "license_title": license_title,
                "license_url": license_url,
                "tags": "[]",
                "track_date_created": "11/26/2008 01:48:12 AM",
                "track_duration": "03:12",
                "track_genres": repr(
                    [{"genre_id": genre_id, "genre_title": genre, "genre_url": "http://example.org/"}]
                ),
                "track_information": information if index % 3 == 0 else "",
                "track_title": f"Piece\nno. {index}" if index % 7 == 0 else f"Piece no. {index}",
                "sample_key": track.key,
                "start_time": track.start_s,
            }
        )
    return stream.getvalue().encode()


def _npz(tracks: tuple[Track, ...], features: NDArray[np.int64]) -> bytes:
    """Pack upstream's arrays: Y_true is 0.5 where no question was put; sample_key is an object array, so pickled."""
    truth = np.full((len(tracks), len(CLASSES)), 0.5)
    mask = np.zeros(truth.shape, bool)
    for row, track in enumerate(tracks):
        for answer in track.answers:
            column = CLASSES.index(answer.instrument)
            truth[row, column], mask[row, column] = answer.relevance, True
    stream = io.BytesIO()
    keys = np.array([track.key for track in tracks], dtype=object)
    np.savez(stream, X=features, Y_true=truth, Y_mask=mask, sample_key=keys)
    return stream.getvalue()
