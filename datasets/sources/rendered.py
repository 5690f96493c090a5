"""Music made here: MIDI files, or pieces composed from a seed, rendered with soundfonts; exact notes and labels.

    my-scores/mid/**/*.mid       or  my-scores/**/*.mid          --data-from my-scores
    Config(scores=1000, seed=0)                                  no input at all

Every score gives `variants` recordings: of a MIDI file the first is the score as it stands, the others, and all of
composed pieces, are varied (`datasets/scores/variation.py`). Nothing is rendered here. A recording's address says all
that decides its sound (score, variant, soundfont, sample rate), and the fetch stage renders it:

    render:scores/<path>?font=...&rate=32000&score=...&seed=0&variant=1
    render:composed/<seed>/<number>?font=...&rate=32000&seed=0&variant=1

Labels come from the notes (`datasets/scores/labels.py`).
"""

import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, quote, unquote, urlencode

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.litter import is_litter, litter_note
from tutti.datasets.manifest import digest_of
from tutti.datasets.printable import in_unicode
from tutti.datasets.record import Clip, Defect, Media, Recording, Seconds
from tutti.datasets.record import clip_id as make_id
from tutti.datasets.scores.composing import CODE_VERSION as COMPOSER_VERSION
from tutti.datasets.scores.composing import compose
from tutti.datasets.scores.families import families_of
from tutti.datasets.scores.labels import CLASSES, labels_of
from tutti.datasets.scores.score import SCORE_SUFFIXES, Score, ScoreError, excerpt, load_midi
from tutti.datasets.scores.soundfonts import SHORT, Soundfont, find_soundfonts
from tutti.datasets.scores.variation import Performance, score_digest, vary
from tutti.datasets.source import Card, Input, LocalFile, RemoteFile, many

CARD = Card(
    title="Music rendered from scores: your MIDI files, or composed from a seed",
    homepage="",
    license="unknown",
    license_url="",
    license_note="Composed pieces are CC0; a rendered MIDI file is what its score is: state it in the configuration.",
    citation="none: made here",
    num_clips=0,
    size_bytes=0,
)

REMOTES: tuple[RemoteFile, ...] = ()
INSTRUMENTS = CLASSES
PARTITIONS = ("composed", "scores")
NOTES = True  # shards have a column of notes

SCHEME = "render:"
MAX_SCORE_S: Seconds = 900.0  # of a score that is rendered: 15 minutes are 165 MB of samples
MAX_SCORES = 1_000_000  # that a recipe may ask for: months of composing


@dataclass(frozen=True)
class Config:
    """Scores, variants and clips to render."""

    root: str = field(default="", metadata={"local": True})  # folder of MIDI files; never part of a manifest
    scores: int = 0  # pieces to compose; 0: render the MIDI files of `root`
    seed: int = 0  # of compositions and variations
    variants: int = 1  # recordings of each score
    clip_s: Seconds = 10.0  # a recording is cut into clips of this length: AudioSet's and OpenMIC's
    min_clip_s: Seconds = 3.0  # the last one may be shorter, but not than this: IRMAS's
    sample_rate: int = 32_000  # Hz of the rendering: what lies above 8 kHz goes anyway, and aliases stay above it
    license: str = "unknown"  # of MIDI files; composed pieces are CC0-1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.scores <= MAX_SCORES or not 1 <= self.variants <= MAX_SCORES:
            raise UsageError(f"rendered: {self}: expected up to {MAX_SCORES:,} scores, and 1 to as many variants")
        if not 0 < self.min_clip_s <= self.clip_s:
            raise UsageError(f"rendered: {self}: expected 0 < min_clip_s <= clip_s")
        if not 16_000 <= self.sample_rate <= 96_000:
            raise UsageError(f"rendered: sample_rate {self.sample_rate}: expected 16,000 to 96,000 Hz")


@dataclass(frozen=True)
class Rendered:
    """The parsed `render:` address of a recording."""

    path: str  # "scores/<path>" or "composed/<seed>/<number>"
    font: str  # key of the soundfont
    sample_rate: int  # Hz
    seed: int
    variant: int
    score: str  # digest of the MIDI file's notes, or of the composer's version

    def address(self) -> str:
        """Format as the URL of a media row."""
        fields = {"font": self.font, "rate": self.sample_rate, "score": self.score}
        query = urlencode({**fields, "seed": self.seed, "variant": self.variant})
        return f"{SCHEME}{quote(self.path, errors='surrogateescape')}?{query}"


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read one recording per score and variant, cut into clips.

    Raises:
        UsageError: there is neither a folder with scores nor a number of pieces, or no soundfont.
    """
    del files  # nothing was downloaded
    fonts = find_soundfonts()
    if config.scores:
        for number in range(config.scores):
            path = f"composed/{config.seed}/{number:06d}"
            piece = compose(config.seed, number)
            for variant in range(1, config.variants + 1):
                yield _recording(path, piece, variant, f"v{COMPOSER_VERSION}", fonts, config)
        return
    root = _root(config)
    for file in midi_files(root):
        path = f"scores/{file}"
        try:
            score = _read_score(root / file, str(file))
        except ScoreError as error:
            yield _defective(path, error, config)
            continue
        digest = score_digest(score)[:SHORT]
        for variant in range(config.variants):
            yield _recording(path, score, variant, digest, fonts, config)


def inputs(config: Config) -> tuple[Input, ...]:
    """List the soundfonts, and the MIDI files under one digest.

    Raises:
        UsageError: there is no soundfont, or neither scores nor a number of pieces.
    """
    fonts = tuple(
        Input("soundfont", in_unicode(font.path.name), font.sha256, font.num_bytes) for font in find_soundfonts()
    )
    if config.scores:
        return fonts
    root = _root(config)
    return (*fonts, many("scores", "MIDI files", root, midi_files(root)))


def midi_files(root: Path) -> list[PurePosixPath]:
    """List the MIDI files in `root/mid`, else anywhere below `root`; relative to root, sorted.

    Raises:
        UsageError: there is none, or two have one name but for their suffixes.
    """
    found = sorted(path for path in _files_below(root) if path.suffix.lower() in SCORE_SUFFIXES)
    if not found:
        raise UsageError(f"rendered: {_top(root)} holds no .mid file; pass --data-from DIR with your scores in DIR/mid")
    by_stem: dict[str, PurePosixPath] = {}
    for path in found:
        other = by_stem.setdefault(unicodedata.normalize("NFC", str(path.with_suffix(""))), path)
        if other != path:
            raise UsageError(f"rendered: {other} and {path} have one id; remove one of them")
    return found


def remarks(config: Config) -> Iterator[str]:
    """Yield a remark on files of systems that are passed over.

    Raises:
        UsageError: there is no such folder.
    """
    if not config.scores:
        yield from litter_note(map(str, _files_below(_root(config), litter=True)))


def _top(root: Path) -> Path:
    return root / "mid" if (root / "mid").is_dir() else root


def _files_below(root: Path, *, litter: bool = False) -> Iterator[PurePosixPath]:
    """Yield the files anywhere below the folder of the scores, relative to `root`: the user's, or those of systems."""
    for folder, folders, names in os.walk(_top(root)):
        folders[:] = [name for name in folders if not is_litter(name)]
        for name in names:
            if is_litter(name) == litter:
                yield PurePosixPath(os.path.relpath(os.path.join(folder, name), root))


def parse(address: str) -> Rendered:
    """Parse the URL that `Rendered.address` formats.

    Raises:
        ValueError: it is no such address.
    """
    path, question, query = address.removeprefix(SCHEME).partition("?")
    values = dict(parse_qsl(query))
    if not address.startswith(SCHEME) or not question or set(values) != {"font", "rate", "score", "seed", "variant"}:
        raise ValueError(f"{address}: is no address of a rendering")
    numbers = {"sample_rate": int(values["rate"]), "seed": int(values["seed"]), "variant": int(values["variant"])}
    return Rendered(unquote(path, errors="surrogateescape"), values["font"], score=values["score"], **numbers)


def performance_of(rendered: Rendered, root: Path | None) -> Performance:
    """Compose the piece to be rendered again, or read it from the folder again.

    Raises:
        IntegrityError: the MIDI file is not what it was when the labels were read from it.
        UsageError: it lies in a folder and there is none.
    """
    kind, _, rest = rendered.path.partition("/")
    if kind == "composed":
        seed, number = (int(part) for part in rest.split("/"))
        return vary(compose(seed, number), seed=rendered.seed, variant=rendered.variant)
    if root is None:
        raise UsageError(f"rendered: {rest} lies in a folder; pass it with --data-from DIR")
    score = _read_score(root / rest, rest)
    if score_digest(score)[:SHORT] != rendered.score:
        raise IntegrityError(f"{rest}: has changed since the build began; run it again")
    return vary(score, seed=rendered.seed, variant=rendered.variant)


def _recording(
    path: str, score: Score, variant: int, digest: str, fonts: tuple[Soundfont, ...], config: Config
) -> Recording:
    name = unicodedata.normalize("NFC", in_unicode(path))
    words = digest_of([name, config.seed, variant])
    font = fonts[int(words[:8], 16) % len(fonts)]
    rendered = Rendered(path, font.key, config.sample_rate, config.seed, variant, digest)
    performance = vary(score, seed=config.seed, variant=variant)
    stem = name if config.scores else str(PurePosixPath(name).with_suffix(""))
    # The soundfont is part of the key: another one makes another recording.
    key = f"{stem}.{config.seed}.{variant}.{font.key}"
    return Recording(Media(rendered.address()), tuple(_clips(key, stem, performance.score, score.repairs, config)))


def _clips(key: str, stem: str, score: Score, repairs: int, config: Config) -> Iterator[Clip]:
    end_s = min(score.end_s, MAX_SCORE_S)
    start_s = 0.0
    while start_s == 0.0 or end_s - start_s >= config.min_clip_s:
        stop_s = round(min(start_s + config.clip_s, end_s), 6)
        yield Clip(
            id=make_id("rendered", key, start_s),
            source="rendered",
            recording=key,
            group=f"rendered/{stem}",
            partition="composed" if config.scores else "scores",
            labels=labels_of(score.notes, start_s, stop_s),
            hierarchy=families_of(score.notes, start_s, stop_s),
            license="CC0-1.0" if config.scores else config.license,
            start_s=start_s,
            end_s=stop_s,
            declared_s=round(stop_s - start_s, 6),
            notes=excerpt(score, start_s, stop_s),
            score_repairs=repairs,
        )
        start_s = round(start_s + config.clip_s, 6)


def _defective(path: str, error: ScoreError, config: Config) -> Recording:
    key = unicodedata.normalize("NFC", in_unicode(path))
    clip = Clip(
        id=make_id("rendered", key),
        source="rendered",
        recording=key,
        group=f"rendered/{PurePosixPath(key).with_suffix('')}",
        partition="scores",
        license=config.license,
        defect=Defect(error.reason, detail=str(error)),
    )
    return Recording(Media(SCHEME + quote(path, errors="surrogateescape")), (clip,))


def _read_score(path: Path, name: str) -> Score:
    try:
        return load_midi(path, name)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror}); correct its permissions or remove it") from error


def _root(config: Config) -> Path:
    if not config.root:
        raise UsageError(
            "rendered: nothing to render; pass --data-from DIR with MIDI files, or --set rendered.scores=1000"
        )
    root = Path(config.root)
    if not root.is_dir():
        raise UsageError(f"rendered: root {config.root!r} is not a folder; pass --data-from DIR")
    return root
