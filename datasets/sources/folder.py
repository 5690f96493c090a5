r"""A folder of the user's own audio, described by one CSV.

    my-music/labels.csv
        path,group,split,license,start_s,end_s,cello,piano
        takes/one.wav,session 1,train,CC0-1.0,,,1,0
        takes/two.flac,session 1,train,CC0-1.0,2.5,12.5,1,

`path` is relative to the folder and the only column that must be there. A class column is named
for its instrument and holds 1 (present), 0 (absent) or nothing (unknown). Without `group` every
file is its own song; without `split` the build divides. Nothing is downloaded, and no path of this
machine enters an id or a manifest: the fetch stage looks `folder:<path>` up below `root`.

Names are compared in Unicode NFC; a byte that is no UTF-8 is written out in ids, `caf\xe9.wav`, and may be so in the
CSV. A line that begins with `#` is a comment, unless its path is a file of the folder.
"""

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tutti.datasets.csv_cells import plain_cell
from tutti.datasets.errors import UsageError
from tutti.datasets.own_paths import Finder
from tutti.datasets.printable import in_unicode
from tutti.datasets.record import ABSENT, PRESENT, SPLITS, Clip, Label, Labels, Media, Recording, Seconds, clip_id
from tutti.datasets.source import Card, Input, LocalFile, RemoteFile
from tutti.datasets.taxonomy import INSTRUMENTS as TAXONOMY
from tutti.datasets.user_text import decode_text, nfc, refuse_bytes, table_rows

CARD = Card(
    title="A folder of your own audio, labelled in a CSV",
    homepage="",
    license="unknown",
    license_url="",
    license_note="Whatever you hold: state it in the column `license`, or for all files in the configuration.",
    citation="none: your own recordings",
    num_clips=0,
    size_bytes=0,
)

REMOTES: tuple[RemoteFile, ...] = ()
INSTRUMENTS: tuple[str, ...] = ()  # those of its CSV: `instruments(config)`
PARTITIONS = ("all", *SPLITS)

RESERVED = ("path", "group", "split", "license", "start_s", "end_s")
PRESENCE = {"1": PRESENT, "0": ABSENT, "": None}

_CLASS = re.compile(r"[a-z0-9_]{1,100}")
_SECONDS = re.compile(r"\d{1,7}(\.\d{1,9})?", re.ASCII)
_MIN_LIKENESS = 0.82  # difflib ratio: "drum" and "trumpets" may be slips, "mandola" and "viola" are instruments
SHOWN = 10  # files that are not there, by name


@dataclass(frozen=True)
class Config:
    """Folder, CSV and licence of the user's own audio."""

    root: str = field(default="", metadata={"local": True})  # the folder; never part of a digest or a manifest
    csv: str = "labels.csv"  # relative to root
    license: str = "unknown"  # of rows that state none

    def __post_init__(self) -> None:
        """Refuse a CSV outside of the folder: manifests of other people name it too."""
        path = PurePosixPath(self.csv)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in self.csv:
            raise UsageError(f"folder: csv {self.csv!r}: give the file's path below the folder, without '..'")


@dataclass(frozen=True)
class Snapshot(Config):
    """The same, with the CSV as it was when a build began: it may be edited while the build runs."""

    data: bytes = field(default=b"", repr=False, metadata={"local": True})


@dataclass(frozen=True)
class Row:
    """One line of the CSV, its cells by column."""

    file: str
    line: int
    cells: Mapping[str, str]

    @property
    def where(self) -> str:
        """File and line, for errors."""
        return f"{self.file}:{self.line}"


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read one recording per file, with the excerpts that its rows cut from it.

    Raises:
        UsageError: the CSV cannot be understood, or names files that are not in the folder: all of them are counted.
    """
    del files  # nothing was downloaded
    root = _root(config)
    finder = Finder(root)
    header, rows = parse_table(_text(config), config.csv, finder)
    classes = class_columns(header, config.csv)
    paths = paths_of(rows, root, finder)
    clips: dict[str, list[Clip]] = {}
    seen: set[str] = set()
    for row, path in zip(rows, paths, strict=True):
        clip = _clip(path, row, classes, config)
        of_file = clips.setdefault(path, [])
        if clip.id in seen:
            raise UsageError(f"{row.where}: {path} stands twice from {clip.start_s} s on; remove one of the rows")
        if of_file and of_file[0].group != clip.group:
            raise UsageError(f"{row.where}: {path} is in two groups; give all its rows the same group")
        seen.add(clip.id)
        of_file.append(clip)
    for path, of_file in clips.items():
        yield Recording(Media(f"folder:{path}"), tuple(of_file))


def inputs(config: Config) -> tuple[Input, ...]:
    """Hash the CSV.

    Raises:
        UsageError: it cannot be read.
    """
    data = _bytes(config)
    return (Input("labels", config.csv, hashlib.sha256(data).hexdigest(), len(data)),)


def instruments(config: Config) -> tuple[str, ...]:
    """List the class columns of the CSV, in its order.

    Raises:
        UsageError: there is no CSV or no class column, or the name of another column looks misspelt.
    """
    header, _ = parse_table(_text(config), config.csv)
    return class_columns(header, config.csv)


def remarks(config: Config) -> Iterator[str]:
    """Yield remarks on classes whose names are nearly those of the taxonomy: slips, or instruments of their own.

    Raises:
        UsageError: as `instruments`.
    """
    for column in instruments(config):
        if column not in TAXONOMY and (near := difflib.get_close_matches(column, TAXONOMY, n=1, cutoff=_MIN_LIKENESS)):
            yield f"{config.csv}: {column!r} is a class of your own; if {near[0]!r} is meant, rename the column"


def snapshot(config: Config) -> Config:
    """Freeze the configuration together with the CSV's present content.

    Raises:
        UsageError: there is no CSV.
    """
    return Snapshot(config.root, config.csv, config.license, _bytes(config))


def parse_table(text: str, name: str, finder: Finder | None = None) -> tuple[tuple[str, ...], list[Row]]:
    """Parse header and rows of the CSV; cells are stripped of surrounding blanks, and in Unicode NFC.

    Args:
        text: of the CSV.
        name: for errors.
        finder: of the folder's files: a path may begin with `#`, as a comment does.

    Raises:
        UsageError: no header, no column `path`, no rows, a row of another length, or bytes that are no UTF-8.
    """

    def is_comment(line: str) -> bool:
        if not line.lstrip().startswith("#"):
            return False
        return finder is None or finder.find(line.partition(",")[0].strip()) is None

    lines = list(table_rows(text, name, is_comment=is_comment))
    if not lines:
        raise UsageError(f"{name}:1: is empty; its first line names the columns: path, then one per instrument")
    (first, cells), *below = lines
    header = tuple(cells)
    if "path" not in header:
        found = in_unicode(", ".join(header))
        raise UsageError(
            f"{name}:{first}: has no column 'path' among: {found}; name it, and separate columns by commas"
        )
    if not below:
        raise UsageError(f"{name}:{first + 1}: has no rows; add one per file")
    rows = []
    for line, cells in below:
        where = f"{name}:{line}"
        if len(cells) != len(header):
            raise UsageError(f"{where}: has {len(cells)} cells, the header {len(header)}; add or remove commas")
        row = Row(name, line, dict(zip(header, cells, strict=True)))
        for column, cell in row.cells.items():
            if column != "path":
                refuse_bytes(cell, name, line)
        rows.append(row)
    return header, rows


def class_columns(header: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Select the columns that are instruments; one that the taxonomy lacks is a class of the user's own.

    Raises:
        UsageError: none, a repeated or ill-formed name, or one that is nearly that of another column.
    """
    for column in header:
        refuse_bytes(column, name, 1)
        if header.count(column) > 1:
            raise UsageError(f"{name}:1: column {column!r} stands twice; remove one")
        if not _CLASS.fullmatch(column):
            raise UsageError(f"{name}:1: column {column!r}: use small letters, digits and underscores: electric_guitar")
        near = difflib.get_close_matches(column, RESERVED, n=1, cutoff=_MIN_LIKENESS)
        if column not in (*RESERVED, *TAXONOMY) and near:
            raise UsageError(f"{name}:1: unknown column {column!r}; did you mean {near[0]!r}?")
    classes = tuple(column for column in header if column not in RESERVED)
    if not classes:
        raise UsageError(f"{name}:1: has no class column; add one per instrument, with 1, 0 or nothing in it")
    return classes


def paths_of(rows: Sequence[Row], root: Path, finder: Finder) -> list[str]:
    """Find the files of all rows; POSIX paths below the folder, as on the disk.

    Args:
        rows: of the CSV.
        root: the folder.
        finder: of its files.

    Raises:
        UsageError: a path is empty, absolute, or leads out of the folder (also by a link); or files are not there, of
            which the first ten are named.
    """
    found, missing = [], []
    for row in rows:
        path = found_path(row, root, finder)
        if path is None:
            missing.append(row)
        else:
            found.append(path)
    if not missing:
        return found
    for row in missing:
        refuse_bytes(row.cells["path"], row.file, row.line)
    shown = [_shown(row, finder) for row in missing[:SHOWN]]
    if len(missing) == 1:
        raise UsageError(f"{missing[0].where}: {shown[0]} is not in the folder; correct the path or remove the row")
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    lines = [f"line {row.line} {text}" for row, text in zip(missing, shown, strict=False)]
    raise UsageError(
        f"{missing[0].where}: {len(missing)} of {len(rows)} rows name files that are not in the folder: "
        f"{', '.join(lines)}{more}; correct the paths or remove the rows"
    )


def found_path(row: Row, root: Path, finder: Finder) -> str | None:
    """Find the file of a row within the folder; None: it is not there.

    Raises:
        UsageError: its path is empty, absolute, or leads out of the folder, also by a link.
    """
    cell = row.cells["path"]
    path = PurePosixPath(cell)
    if not path.parts:
        raise UsageError(f"{row.where}: path is empty; give the file's path below the folder")
    if path.is_absolute() or ".." in (*path.parts, *cell.split("\\")):
        raise UsageError(
            f"{row.where}: path {cell!r} leads out of the folder; give it relative to the folder, without '..'"
        )
    found = finder.find(cell)
    if found is not None and not (root / found).resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{row.where}: {cell!r} is a link out of the folder; copy the file into it")
    return found


def _shown(row: Row, finder: Finder) -> str:
    """Format the path of a row whose file is not there, with the one that may be meant."""
    cell = row.cells["path"]
    near = finder.nearly(cell)
    return f"{cell!r} (there is {in_unicode(near)!r})" if near is not None and near != cell else repr(cell)


def labels_of(row: Row, classes: tuple[str, ...]) -> Labels:
    """Parse the labels of one row; an empty cell is unknown.

    Raises:
        UsageError: a cell holds anything but 1, 0 or nothing.
    """
    labels: dict[str, Label] = {}
    for name in classes:
        if row.cells[name] not in PRESENCE:
            raise UsageError(f"{row.where}: column {name!r} holds {row.cells[name]!r}; use 1, 0, or leave it empty")
        presence = PRESENCE[row.cells[name]]
        if presence is not None:
            labels[name] = Label(presence, "human")
    return labels


def _clip(path: str, row: Row, classes: tuple[str, ...], config: Config) -> Clip:
    start_s = _seconds(row, "start_s") or 0.0
    end_s = _seconds(row, "end_s")
    if end_s is not None and end_s <= start_s:
        raise UsageError(f"{row.where}: end_s {end_s} is not after start_s {start_s}; correct one of them")
    split = row.cells.get("split", "")
    if split not in ("", *SPLITS):
        raise UsageError(f"{row.where}: split {split!r}; use {', '.join(SPLITS)}, or leave it empty")
    key = nfc(in_unicode(path))
    return Clip(
        id=clip_id("folder", key, start_s),
        source="folder",
        recording=key,
        group=f"folder/{nfc(plain_cell(row.cells.get('group', '')) or key)}",
        partition=split or "all",
        labels=labels_of(row, classes),
        license=plain_cell(row.cells.get("license", "")) or config.license,
        start_s=start_s,
        end_s=end_s,
        declared_s=None if end_s is None else round(end_s - start_s, 6),
    )


def _seconds(row: Row, column: str) -> Seconds | None:
    cell = row.cells.get(column, "")
    if not cell:
        return None
    if not _SECONDS.fullmatch(cell):
        raise UsageError(f"{row.where}: {column} {cell!r} is no time in seconds; write 2.5")
    return float(cell)


def _root(config: Config) -> Path:
    if not config.root:
        raise UsageError(f"folder: no root; pass --data-from DIR, where DIR holds your audio and its {config.csv}")
    root = Path(config.root)
    if not root.is_dir():
        raise UsageError(f"folder: root {config.root!r} is not a folder; pass --data-from DIR")
    return root


def _text(config: Config) -> str:
    return decode_text(_bytes(config), config.csv, bytes_pass=True)


def _bytes(config: Config) -> bytes:
    if isinstance(config, Snapshot):
        return config.data
    try:
        return (_root(config) / config.csv).read_bytes()
    except OSError as error:
        raise UsageError(f"{config.csv}: cannot be read in {config.root!r} ({error.strerror}); create it") from error
