"""What a command line asks for: the recipe with its changes, the origins, the places; and how to show it."""

import argparse
import contextlib
import math
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.addresses import shown
from datasets.environment import switch
from datasets.errors import StorageError, UsageError
from datasets.files import atomic_folder, default_cache_folder, remove
from datasets.manifest import read_manifest
from datasets.source import load_source, source_names
from pipelines.acquisition.ledger import parse_retry
from pipelines.acquisition.origins import (
    VIDEOS_PER_HOUR,
    Origins,
    holds_its_sums,
    is_http,
    mirror_path,
    mirror_sums,
    with_sums,
)
from pipelines.acquisition.youtube import Access, preflight
from pipelines.build.arguments import output_root
from pipelines.build.lock_file import foreign_inputs
from pipelines.build.output import Output
from pipelines.cache.store import Cache
from pipelines.curation.overrides import ordered_overrides, read_overrides
from pipelines.recipe import STAGES, Recipe, load_recipe, override, recipe_from_json, recipe_names
from pipelines.stages.download import known_by_md5


@dataclass(frozen=True)
class Plan:
    """What a command line asks for."""

    recipe: Recipe
    origins: Origins
    cache: Cache
    output: Output
    frozen: Path | None = None  # version folder of the manifest to rebuild
    parent: Path | None = None  # version folder whose splits hold; None: see `sticky`
    sticky: bool = False  # the splits of the output's own versions hold
    replaces: bool = False  # another dataset may give way
    publish: Path | None = None  # where verified versions are copied to
    min_yield: float = 0.0  # share of a source's clips that must be kept


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Recipe and places of a command line; reads the inputs that it names.

    Raises:
        UsageError: an unknown recipe, field, folder or reason.
    """
    switch("TUTTI_OFFLINE")  # what it says is asked for again wherever an address is opened
    recipe = recipe_of(arguments)
    select = recipe.select
    if arguments.limit is not None:
        select = replace(select, limit=arguments.limit)
    for file in arguments.exclude:
        select = replace(select, exclude=tuple(sorted({*select.exclude, *read_exclusions(file)})))
    recipe = replace(recipe, select=select)
    recipe, local_roots = with_own_folder(recipe, arguments.data_from)
    if arguments.overrides:
        classes = recipe.classes()
        corrected = [row for file in arguments.overrides for row in read_overrides(file, classes)]
        overrides = ordered_overrides([*recipe.clean.overrides, *corrected])
        recipe = replace(recipe, clean=replace(recipe.clean, overrides=overrides))
    if arguments.embedder is not None:
        recipe = replace(recipe, embed=recipe.embed.named(arguments.embedder))
    if arguments.seed is not None:
        recipe = replace(recipe, seed=arguments.seed)
    if arguments.max_errors is not None:
        recipe = replace(recipe, max_errors=arguments.max_errors)
    root, cache_root = places_of(arguments)
    cache = Cache(cache_root)
    origins = Origins(
        mirror=mirror_root(arguments.mirror, cache),
        credentials=arguments.credentials,
        local_roots=local_roots,
        own_roots=() if local_roots else tuple(_folder("--data-from", folder) for folder in arguments.data_from),
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
    output = Output(root)
    return Plan(
        recipe,
        with_sums(origins, cache),
        cache,
        output,
        frozen=None if arguments.frozen is None else read_manifest(arguments.frozen).folder,
        parent=named_parent(arguments.parent),
        sticky=arguments.parent is None and arguments.frozen is None,
        replaces=arguments.replace,
        publish=None if arguments.publish is None else arguments.publish.absolute(),
        min_yield=arguments.min_yield or 0.0,
    )


def places_of(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """The output root and the cache of a command line."""
    return output_root(arguments).absolute(), (arguments.cache_dir or default_cache_folder()).absolute()


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe that a command line names, with its `--set`; reads no input but the manifest of `--frozen`.

    Raises:
        UsageError: an unknown recipe or field, or two datasets are named.
    """
    frozen = None if arguments.frozen is None else read_manifest(arguments.frozen)
    recipe = load_recipe(arguments.dataset) if frozen is None else recipe_from_json(frozen.content["recipe"])
    if frozen is not None and arguments.dataset not in (None, recipe.name):
        raise UsageError(f"--dataset {arguments.dataset}: the manifest is of {recipe.name}; leave --dataset out")
    for setting in arguments.set:
        recipe = override(recipe, setting)
    return recipe


def named_parent(named: str | None) -> Path | None:
    """The folder of the version that `--parent` names; None where it names none.

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
    """Ids and patterns of an exclusion list: one a line; empty lines and those that begin with # are comments.

    Raises:
        UsageError: the file cannot be read as text.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--exclude {file}: {error}; give a text file with one id or pattern a line") from error
    return [line for line in lines if line and not line.startswith("#")]


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


def with_own_folder(recipe: Recipe, folders: Sequence[str]) -> tuple[Recipe, tuple[tuple[str, str], ...]]:
    """The recipe with its sources that read a folder of the user's pointed at `--data-from`, and the roots to read."""
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
    return replace(recipe, sources={**recipe.sources, **own}), roots


def mirror_root(mirror: str | None, cache: Cache) -> str | None:
    """The mirror's address; `sample` is generated into the cache when first asked for."""
    if mirror is None or is_http(mirror):
        return mirror
    if mirror == "sample":
        from datasets.sample import sample_key, write_sample_mirror  # it loads scipy.signal: half a second

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


def warn(plan: Plan) -> None:
    """Tell what will be missing before hours are spent.

    Raises:
        UsageError: a tool that was asked for is not there.
        StorageError: the disk cannot hold what is to be fetched.
    """
    if "audioset" in plan.recipe.sources and plan.origins.mirror is None:
        for message in preflight(plan.origins.access):
            note(message)
    if plan.frozen is not None:
        for message in foreign_inputs(read_manifest(plan.frozen), plan.recipe):
            note(message)
    check_space(needed_bytes(plan), plan.cache)


def needed_bytes(plan: Plan) -> int:
    """What the files of the sources that are not in the cache will take there, at the least."""
    total = 0
    for source in plan.recipe.sources:
        module = load_source(source)
        missing = [remote for remote in module.REMOTES if not _is_cached(remote.url, remote.sha256, remote.md5, plan)]
        if not missing:
            continue
        mirror = plan.origins.mirror
        if mirror is not None and not is_http(mirror):
            files = [Path(mirror) / mirror_path(remote.url) for remote in missing]
            sizes = [file.stat().st_size if file.is_file() else 0 for file in files]
        elif mirror is not None or plan.origins.own_roots:
            sizes = [0]  # nobody told
        else:
            sizes = [math.ceil(module.CARD.size_bytes / len(module.REMOTES))] * len(missing)
        # A gzipped tar is unpacked once, and audio hardly compresses.
        total += sum(2 * n if r.url.endswith("gz") else n for n, r in zip(sizes, missing, strict=False))
    return total


def _is_cached(url: str, sha256: str | None, md5: str | None, plan: Plan) -> bool:
    expected = mirror_sums(plan.origins, plan.cache).get(mirror_path(url)) or sha256
    if expected is None and md5 is not None:
        expected = known_by_md5(url, md5, plan.cache)  # last: it may have to hash archives
    return expected is not None and plan.cache.has_blob(expected)


def check_space(needed: int, cache: Cache) -> None:
    """Refuse to start what cannot end.

    Raises:
        StorageError: names the bytes needed and those that are free.
    """
    place = next(folder for folder in (cache.root, *cache.root.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StorageError(
            f"the cache needs about {needed:,} bytes more on the disk of {cache.root}, {free:,} are free; "
            "free space, or choose another --cache-dir"
        )


def describe(plan: Plan) -> str:
    """The plan of a build, for `--dry-run`."""
    lines = [f"dataset {plan.recipe.name} -> {plan.output.root}", f"classes {', '.join(plan.recipe.classes())}"]
    for source, config in sorted(plan.recipe.sources.items()):
        lines.append(f"source {source} {config}")
        for remote in load_source(source).REMOTES:
            cached = _is_cached(remote.url, remote.sha256, remote.md5, plan)
            lines.append(f"  {remote.url}: {'in the cache' if cached else 'to be fetched'}")
    lines.append(f"the cache grows by {needed_bytes(plan):,} bytes or more, before any clip is prepared")
    for stage in STAGES:
        lines.append(f"stage {getattr(plan.recipe, stage)}")
    return "\n".join(lines)


def listing() -> str:
    """Recipes and sources, for `--list`."""
    lines = ["datasets:"]
    lines += [f"  {name:12} {', '.join(load_recipe(name).sources)}" for name in recipe_names()]
    lines.append("sources:")
    for name in source_names():
        card = load_source(name).CARD
        size = f"{card.num_clips:,} clips, {card.size_bytes / 1e9:.1f} GB" if card.num_clips else "your own"
        lines.append(f"  {name:12} {card.title}: {size}, {card.license}. {card.license_note}")
    return "\n".join(lines)


def note(message: str) -> None:
    """A word to the user on stderr, if anybody hears it."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(f"note: {message}", file=sys.stderr, flush=True)
