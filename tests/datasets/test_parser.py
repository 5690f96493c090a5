"""What every command does with its arguments: names of flags, sub-commands, and one line for what cannot be read."""

import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

from tutti.datasets.command import VERSION, Parser
from tutti.datasets.errors import UsageError


def parser() -> Parser:
    flags = Parser("python -m train.example", "An example.")
    flags.add_argument("--data-from", default="")
    flags.add_argument("--run")
    flags.add_argument("--level", choices=("manifest", "shards"))
    flags.add_argument("--limit", type=int)
    flags.add_argument("--dry-run", action="store_true")
    flags.add_argument("audio", nargs="*")
    return flags


def commands() -> Parser:
    outer = Parser("python -m pipelines.example")
    outer.add_argument("--cache-dir", type=Path)
    added = outer.add_subparsers(dest="command", metavar="COMMAND", required=True)
    added.add_parser("list").add_argument("--json", action="store_true")
    verify = added.add_parser("verify")
    verify.add_argument("root")
    verify.add_argument("--dry-run", action="store_true")
    return outer


def refusal(of: Parser, *arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        of.parse_args(arguments)
    return str(caught.value)


def test_the_version_is_that_of_the_project():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


@pytest.mark.parametrize("arguments", [["--version"], ["--run", "x", "--version", "y"]])
def test_the_version_is_printed_whatever_stands_beside_it(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments)

    assert ended.value.code == 0
    assert capsys.readouterr() == (f"tutti {VERSION}\n", "")


# --- names of flags


def test_dashes_and_underscores_in_flags_are_the_same():
    assert parser().parse_args(["--data_from", "a_b"]).data_from == "a_b"
    assert parser().parse_args(["--data_from=a_b"]).data_from == "a_b"
    assert parser().parse_args(["--dry_run"]).dry_run


def test_an_unknown_flag_is_refused_with_the_nearest_one():
    see = "; see python -m train.example --help"

    assert refusal(parser(), "--data-form", "x") == f"unknown flag --data-form (did you mean '--data-from'?){see}"
    assert refusal(parser(), "--data_form=x") == f"unknown flag --data_form (did you mean '--data-from'?){see}"
    assert refusal(parser(), "--ru", "x") == f"unknown flag --ru (did you mean '--run'?){see}"  # no abbreviations
    assert refusal(parser(), "-level") == f"unknown flag -level (did you mean '--level'?){see}"
    assert refusal(parser(), "-x") == f"unknown flag -x{see}"


def test_after_two_dashes_everything_is_a_file():
    assert parser().parse_args(["--", "--my_song.wav", "--dry_run"]).audio == ["--my_song.wav", "--dry_run"]


def test_what_begins_with_a_dash_and_is_no_flag_is_a_value():
    options = parser().parse_args(["--limit", "-3", "-", "-a b.wav"])

    assert (options.limit, options.audio) == (-3, ["-", "-a b.wav"])


# --- one line for what cannot be read


def test_a_wrong_choice_is_refused_with_the_nearest_one():
    assert refusal(parser(), "--level", "shard") == (
        "argument --level: invalid choice: 'shard' (did you mean 'shards'?); choose from manifest, shards; "
        "see python -m train.example --help"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run"], "argument --run: expected one argument"),
        (["--limit", "many"], "argument --limit: invalid int value: 'many'"),
        (["--dry-run=yes"], "argument --dry-run: ignored explicit argument 'yes'"),
    ],
)
def test_a_wrong_or_missing_value_names_the_flag(arguments, message):
    assert refusal(parser(), *arguments) == f"{message}; see python -m train.example --help"


# --- sub-commands


def test_flags_of_a_command_stand_before_or_after_their_values():
    options = commands().parse_args(["--cache_dir", "c", "verify", "root", "--dry_run"])

    assert (options.command, options.cache_dir, options.root, options.dry_run) == ("verify", Path("c"), "root", True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["verfy", "root"],
            "argument COMMAND: invalid choice: 'verfy' (did you mean 'verify'?); choose from list, verify; "
            "see {} --help",
        ),
        ([], "the following arguments are required: COMMAND; see {} --help"),
        (["verify"], "the following arguments are required: root; see {} verify --help"),
        (["verify", "root", "more"], "unexpected argument 'more'; see {} verify --help"),
        (["verify", "root", "--dry-rn"], "unknown flag --dry-rn (did you mean '--dry-run'?); see {} verify --help"),
        (["--cache-dri", "c", "list"], "unknown flag --cache-dri (did you mean '--cache-dir'?); see {} --help"),
        (["--cache-dir", "c", "--jsn", "list"], "unknown flag --jsn (did you mean '--json'?); see {} --help"),
        (["--json", "list"], "--json stands before the command; write it after; see {} --help"),
    ],
)
def test_what_a_command_cannot_read_is_said_by_itself(arguments, message):
    assert refusal(commands(), *arguments) == message.format("python -m pipelines.example")


# --- flags of somebody else


def test_a_parser_that_passes_on_answers_what_it_does_not_know():
    mine = Parser("python -m pipelines.example", passes_on=True)
    mine.add_argument("--dry-run", action="store_true")

    found, rest = mine.parse_known_args(["--runner=X", "--dry_run", "--direct_num_workers", "2", "-y"])
    assert found.dry_run
    assert rest == ["--runner=X", "--direct_num_workers", "2", "-y"]
