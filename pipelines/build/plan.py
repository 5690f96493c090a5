"""Plan a build from a command line: the recipe with its changes, the origins, the places."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutti.datasets.addresses import shown
from tutti.datasets.environment import switch
from tutti.datasets.errors import UsageError
from tutti.datasets.files import atomic_folder, default_cache_folder, remove
from tutti.datasets.manifest import read_manifest
from tutti.datasets.source import load_source
from tutti.datasets.streams import note
from tutti.datasets.user_text import entries, read_text
from tutti.pipelines.acquisition.ledger import parse_retry
from tutti.pipelines.acquisition.origins import (
    VIDEOS_PER_HOUR,
    Origins,
    holds_its_sums,
    is_http,
    with_sums,
)
from tutti.pipelines.acquisition.youtube import Access
from tutti.pipelines.build.arguments import output_root
from tutti.pipelines.build.output import Output
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.curation.overrides import ordered_overrides, read_overrides
from tutti.pipelines.recipe import Recipe, check_rules, load_recipe, override, recipe_from_json


@dataclass(frozen=True)
class Build:
    """One build: of what it is made, where, and what may be published."""

    recipe: Recipe
    origins: Origins
    cache: Cache
    output: Output
    frozen: Path | None = None  # version to rebuild exactly
    parent: Path | None = None  # version whose splits hold
    sticky: bool = False  # the parent is the version that stands in the output, if any
    download_only: bool = False
    replaces: bool = False  # another dataset may give way
    publish: Path | None = None  # where verified versions are copied to
    min_yield: float = 0.0  # share of a source's clips that must be kept


def plan_build(arguments: argparse.Namespace) -> Build:
    """Plan the build that a command line asks for; reads the inputs that it names.

    Raises:
        UsageError: an unknown recipe, field, folder or reason.
    """
    switch("TUTTI_OFFLINE")  # what it says is asked for again wherever an address is opened
    root, cache_root = places_of(arguments)
    cache = Cache(cache_root)
    mirror = mirror_root(arguments.mirror, cache)
    recipe = with_flags(recipe_of(arguments), arguments)
    recipe, local_roots = with_own_folder(recipe, arguments.data_from, own_folders_of(mirror, recipe))
    recipe = with_overrides(recipe, arguments.overrides)
    origins = origins_of(arguments, recipe, local_roots, mirror)
    return Build(
        recipe,
        with_sums(origins, cache),
        cache,
        Output(root),
        frozen=None if arguments.frozen is None else read_manifest(arguments.frozen).folder,
        parent=named_version(arguments.parent),
        sticky=arguments.parent is None and arguments.frozen is None,
        download_only=arguments.download_only,
        replaces=arguments.replace,
        publish=None if arguments.publish is None else arguments.publish.absolute(),
        min_yield=arguments.min_yield or 0.0,
    )


def with_flags(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """Apply the flags other than `--set` to a recipe.

    Raises:
        UsageError: a list of exclusions cannot be read.
    """
    select = recipe.select
    if arguments.limit is not None:
        select = replace(select, limit=arguments.limit)
    for file in arguments.exclude:
        select = replace(select, exclude=tuple(sorted({*select.exclude, *read_exclusions(file)})))
    embed = recipe.embed if arguments.embedder is None else recipe.embed.with_embedder(arguments.embedder)
    given = {name: getattr(arguments, name) for name in ("seed", "max_errors") if getattr(arguments, name) is not None}
    return replace(recipe, select=select, embed=embed, **given)


def with_overrides(recipe: Recipe, files: Sequence[Path]) -> Recipe:
    """Add labels that people corrected to a recipe.

    Raises:
        UsageError: a file cannot be understood.
    """
    if not files:
        return recipe
    classes = recipe.classes()
    corrected = [row for file in files for row in read_overrides(file, classes)]
    overrides = ordered_overrides([*recipe.clean.overrides, *corrected])
    return replace(recipe, clean=replace(recipe.clean, overrides=overrides))


def origins_of(
    arguments: argparse.Namespace, recipe: Recipe, local_roots: tuple[tuple[str, str], ...], mirror: str | None
) -> Origins:
    """Collect where the bytes may come from; archives are looked for in the user's folders if a source has any.

    Raises:
        UsageError: no such folder or file, or a wrong value.
    """
    downloads = not local_roots or any(load_source(name).REMOTES for name in recipe.sources)
    return Origins(
        mirror=mirror,
        credentials=arguments.credentials,
        local_roots=local_roots,
        own_roots=tuple(_folder("--data-from", folder) for folder in arguments.data_from if downloads),
        access=Access(
            cookies=None if arguments.cookies is None else _file("--cookies", arguments.cookies),
            proxy=_proxy(arguments.proxy),
            options=tuple(_pair(text) for text in arguments.ytdlp),
            media_hosts=tuple(arguments.media_host),
            section_above_s=arguments.section_above,
        ),
        videos_per_hour=VIDEOS_PER_HOUR if arguments.videos_per_hour is None else arguments.videos_per_hour,
        retry=parse_retry(arguments.retry_status or ""),
    )


def places_of(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Return the output root and the cache of a command line."""
    return output_root(arguments).absolute(), (arguments.cache_dir or default_cache_folder()).absolute()


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Load the recipe that a command line names, with its `--set`; reads no input but the manifest of `--frozen`.

    Raises:
        UsageError: an unknown recipe or field, or two datasets are named.
    """
    frozen = None if arguments.frozen is None else read_manifest(arguments.frozen)
    recipe = load_recipe(arguments.dataset) if frozen is None else recipe_from_json(frozen.content["recipe"])
    if frozen is not None and arguments.dataset not in (None, recipe.name):
        raise UsageError(f"--dataset {arguments.dataset}: the manifest is of {recipe.name}; leave --dataset out")
    for setting in arguments.set:
        recipe = override(recipe, setting)
    if arguments.set:
        check_rules(recipe)
    return recipe


def named_version(named: str | None) -> Path | None:
    """Locate the version that `--parent` names; None where it names none.

    Raises:
        UsageError: it is no dataset, or incomplete.
    """
    if named in (None, "none"):
        return None
    manifest = read_manifest(Path(str(named)))
    if lost := manifest.content.get("incomplete"):
        reasons = ", ".join(sorted(lost))
        raise UsageError(f"--parent {named}: this version is incomplete ({reasons}); name a complete one, or none")
    return manifest.folder


def read_exclusions(file: Path) -> list[str]:
    """Read ids and patterns of an exclusion list: one a line, with comments behind `#`; see `datasets/user_text.py`.

    Raises:
        UsageError: the file cannot be read as text in UTF-8.
    """
    return [entry for _, entry in entries(read_text(file, f"--exclude {file}"))]


def _folder(flag: str, text: str) -> str:
    folder = Path(text).expanduser().absolute()
    if not folder.is_dir():
        raise UsageError(f"{flag} {text}: no such folder")
    return str(folder)


def _file(flag: str, text: str) -> str:
    file = Path(text).expanduser().absolute()
    if not file.is_file():
        raise UsageError(f"{flag} {text}: no such file")
    return str(file)


def _proxy(address: str | None) -> str | None:
    if address is not None and not re.match(r"(https?|socks4a?|socks5h?)://[^/]", address, re.IGNORECASE):
        raise UsageError("--proxy: expected an address such as http://HOST:PORT or socks5://HOST:PORT")
    return address


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError("--ytdlp: expected KEY=VALUE, an option of yt_dlp.YoutubeDL")  # unsaid: it may be a password
    return name, value


def with_own_folder(
    recipe: Recipe, folders: Sequence[str], of_mirror: Sequence[str] = ()
) -> tuple[Recipe, tuple[tuple[str, str], ...]]:
    """Set the folders of sources that read the user's; return the recipe and the roots to read.

    A source with `root` reads the one folder that is given, and its root has its name; one with `roots` finds what is
    its own in any number of folders, and the roots are numbered: `medleydb/0`, `medleydb/1`.

    Args:
        recipe: to be built.
        folders: given by the user.
        of_mirror: read by sources with `roots` where none is given.

    Raises:
        UsageError: none where one is needed, several where one is, or no such folder.
    """
    own = {name: config for name, config in recipe.sources.items() if hasattr(config, "root")}
    if own and folders:
        root = str(Path(folders[0]).expanduser().absolute())
        own = {name: replace(config, root=root) for name, config in own.items()}
    if (own and len(folders) > 1) or ("folder" in own and not own["folder"].root):
        holds = "labels.csv" if "folder" in own else "your scores"
        raise UsageError(f"--dataset {recipe.name} needs exactly one --data-from DIR that holds {holds}")
    roots = tuple((name, config.root) for name, config in own.items() if config.root)
    # Whoever reads the labels later in this build sees them as they are now.
    own |= {name: load_source(name).snapshot(own[name]) for name in own.keys() & {"folder"}}  # type: ignore[attr-defined]
    for name, config in recipe.sources.items():
        if hasattr(config, "roots"):
            own[name], numbered = _with_roots(name, config, folders or config.roots or of_mirror)
            roots += numbered
    return replace(recipe, sources={**recipe.sources, **own}), roots


def _with_roots(name: str, config: Any, folders: Sequence[str]) -> tuple[Any, tuple[tuple[str, str], ...]]:
    if not folders:
        title = load_source(name).CARD.title
        raise UsageError(f"{name}: no folder; pass --data-from DIR, once or more, where DIR holds songs of {title}")
    places = tuple(dict.fromkeys(_folder("--data-from", folder) for folder in folders))
    return replace(config, roots=places), tuple((f"{name}/{number}", place) for number, place in enumerate(places))


def own_folders_of(mirror: str | None, recipe: Recipe) -> list[str]:
    """List the folders of a mirror with what a user would have: `ROOT/user`, and hosts that serve song by song.

    Such hosts are the `HOSTS` of sources with `roots`.
    """
    if mirror is None or is_http(mirror):
        return []
    sources = [load_source(name) for name, config in recipe.sources.items() if hasattr(config, "roots")]
    hosts = sorted({host for source in sources for host in getattr(source, "HOSTS", ())})
    return [str(Path(mirror) / name) for name in ("user", *hosts) if (Path(mirror) / name).is_dir()]


def mirror_root(mirror: str | None, cache: Cache) -> str | None:
    """Return the mirror's address; `sample` is generated into the cache when first asked for."""
    if mirror is None or is_http(mirror):
        return mirror
    if mirror == "sample":
        from tutti.datasets.sample import sample_key, write_sample_mirror  # it loads scipy.signal: half a second

        root = cache.root / "sample" / sample_key()
        if not holds_its_sums(root):
            note("generating the built-in sample mirror, once")
            remove(root)  # a damaged one
            with atomic_folder(root) as folder:
                write_sample_mirror(folder)
        return str(root)
    folder = Path(mirror).absolute()
    if not folder.is_dir():
        named = shown(mirror if ":/" in mirror else f"http://{mirror}").removeprefix("http://")  # its scheme forgotten
        raise UsageError(f"--mirror {named}: no such folder; expected sample, a folder or an http(s) address")
    return str(folder)
