"""Groups of artists: one for all spellings of a name, and for all names that share songs' ids.

MedleyDB's ids begin with the artist (`LizNelson_Rainfall`), its metadata name the artist in words, and the two may
differ: `BrandonWebster_...` has the names of guests, and `NYU` is the artist of six prefixes. So prefix and name are
joined, and with them all that either is joined to. 31 songs of Mixing Secrets have the issue of a magazine for a
prefix and an artist (`MR1210_JamesMay`); their title is the artist.
"""

import re
from collections.abc import Iterable, Mapping

from tutti.datasets.hierarchy import fold_artist

_ISSUE = re.compile(r"MR\d{3,5}")
_NO_ARTIST = frozenset({"", "na", "none", "null", "unknown", "unknownartist", "various", "variousartists"})


def is_issue(prefix: str) -> bool:
    """Whether the prefix of an id is the issue of a magazine rather than an artist."""
    return _ISSUE.fullmatch(prefix) is not None


def artist_of(key: str, artist: str, title: str) -> str | None:
    """Name the artist of a song.

    Args:
        key: the song's id, `Artist_Title`.
        artist: of its metadata; may be empty.
        title: likewise.
    """
    prefix, _, rest = key.partition("_")
    if is_issue(prefix):
        return title or rest or None
    return artist or prefix or None


def artist_groups(songs: Iterable[tuple[str, str | None]]) -> Mapping[str, str]:
    """Group songs by artist.

    Args:
        songs: id and artist of each.

    Returns:
        Group of each id: the first, in the order of the alphabet, of all folded names that are joined.
    """
    listed = [(key, _names(key, artist)) for key, artist in songs]
    parent: dict[str, str] = {}

    def root_of(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for _, names in listed:
        for name in names[1:]:
            first, second = sorted((root_of(names[0]), root_of(name)))
            parent[second] = first  # the smaller name stays the root
    return {key: root_of(names[0]) for key, names in listed}


def _names(key: str, artist: str | None) -> list[str]:
    prefix = key.partition("_")[0]
    named = [artist or ""] if is_issue(prefix) else [prefix, artist or ""]
    folded = [fold_artist(name) for name in named]
    return [name for name in folded if name not in _NO_ARTIST] or [fold_artist(key) or key]
