"""Flags of Beam: those that it does not know are refused."""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from tutti.datasets.errors import UsageError
from tutti.datasets.settings import nearest


def refuse_unknown(flags: Sequence[str], ours: Sequence[str]) -> list[str]:
    """Refuse flags that Beam does not know; return the others as Beam spells them, with `_`.

    Args:
        flags: what our parser passes on.
        ours: the names of our own flags, which may be meant.

    Raises:
        UsageError: Beam does not know one either; the message names the nearest.
    """
    spelled = [_underscored(flag) for flag in flags]
    if any("dask" in flag.lower() for flag in spelled):
        _import_dask_options()
    parser = beam.options.pipeline_options._BeamArgumentParser(allow_abbrev=False, add_help=False)
    for options in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in options.__dict__:
            options._add_argparse_args(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    for flag in spelled:
        name = flag.partition("=")[0]
        if name.startswith("-") and name not in known:
            raise UsageError(f"unknown flag {name}{nearest(name, [*ours, *known])}; see --help")
        if not name.startswith("-") and not _follows_flag(spelled, flag):
            raise UsageError(f"unexpected argument {flag!r}; see --help")
    return spelled


def _underscored(flag: str) -> str:
    name, equals, value = flag.partition("=")
    return (name.replace("-", "_").replace("__", "--", 1) if name.startswith("--") else name) + equals + value


def _import_dask_options() -> None:
    try:
        import apache_beam.runners.dask.dask_runner  # noqa: F401  (registers its options)
    except ImportError as error:
        raise UsageError(f"the Dask runner is not installed ({error}); pip install 'apache-beam[dask]'") from error


def _follows_flag(flags: Sequence[str], value: str) -> bool:
    position = list(flags).index(value)
    return position > 0 and flags[position - 1].startswith("--") and "=" not in flags[position - 1]
