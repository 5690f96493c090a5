"""The command line: our flags, Beam's flags, and nothing that passes unnoticed."""

from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions

from tutti.datasets.errors import UsageError
from tutti.pipelines.build.arguments import FIXED_BY_MANIFEST, build_parser, flag_names, parse
from tutti.pipelines.engine.runner import pipeline_options

SEE = "; see python -m pipelines.build --help"

# --- ours


def test_every_flag_of_the_contract_is_there():
    assert {
        "--dataset", "--mirror", "--output", "--cache-dir", "--data-from", "--limit", "--seed", "--embedder", "--set",
        "--frozen", "--parent", "--dry-run", "--download-only", "--wait", "--list", "--max-errors",
    } <= set(flag_names())  # fmt: skip


def test_a_full_command_line():
    arguments, rest = parse(
        [
            "--dataset", "ultimate", "--mirror", "sample", "--output=out", "--cache-dir", "cache", "--limit", "200",
            "--seed", "0", "--embedder", "logmel", "--set", "clean.min_duration_s=0.5", "--set", "irmas.others=absent",
            "--data-from", "a", "--data-from", "b", "--wait", "1.5", "--max-errors", "0.01", "--dry-run",
        ]
    )  # fmt: skip

    assert (arguments.dataset, arguments.mirror, arguments.output) == ("ultimate", "sample", Path("out"))
    assert (arguments.limit, arguments.seed, arguments.wait, arguments.max_errors) == (200, 0, 1.5, 0.01)
    assert arguments.set == ["clean.min_duration_s=0.5", "irmas.others=absent"]
    assert arguments.data_from == ["a", "b"]
    assert arguments.dry_run
    assert not arguments.download_only
    assert rest == []


def test_what_is_not_given_stays_at_the_recipes_choice():
    arguments, _ = parse(["--dataset", "irmas"])

    assert (arguments.seed, arguments.limit, arguments.max_errors, arguments.output) == (None, None, None, None)


def test_a_seed_of_zero_is_a_seed():
    assert parse(["--dataset", "irmas", "--seed", "0"])[0].seed == 0


@pytest.mark.parametrize(
    "flags",
    [
        ["--dry-run", "--cache-dir", "c", "--data-from=a_b-c"],
        ["--dry_run", "--cache_dir", "c", "--data_from=a_b-c"],
        ["--dry_run", "--cache-dir=c", "--data_from", "a_b-c"],
    ],
)
def test_dashes_and_underscores_are_the_same_in_flags_and_untouched_in_values(flags):
    arguments, rest = parse(["--dataset", "irmas", *flags])

    assert (arguments.dry_run, arguments.cache_dir, arguments.data_from) == (True, Path("c"), ["a_b-c"])
    assert rest == []


@pytest.mark.parametrize("flag", FIXED_BY_MANIFEST)
def test_a_frozen_build_takes_nothing_that_its_manifest_says(flag):
    with pytest.raises(UsageError, match=f"--{flag}: --frozen takes everything from the manifest"):
        parse(["--frozen", "m.json", f"--{flag}", "1"])


def test_a_frozen_build_needs_no_name():
    arguments, _ = parse(["--frozen", "manifests/sample"])

    assert (str(arguments.frozen), arguments.dataset) == ("manifests/sample", None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--dataset NAME is missing; --list shows the names"),
        (["--dataset"], f"argument --dataset: expected one argument{SEE}"),
        (["--dataset", "irmas", "--limit", "0"], "--limit 0: expected a positive number"),
        (["--dataset", "irmas", "--limit", "-3"], "--limit -3: expected a positive number"),
        (["--dataset", "irmas", "--limit", "many"], f"argument --limit: invalid int value: 'many'{SEE}"),
        (["--dataset", "irmas", "--wait", "long"], f"argument --wait: invalid float value: 'long'{SEE}"),
    ],
)
def test_a_wrong_value_is_a_usage_error_that_names_the_flag(flags, message):
    with pytest.raises(UsageError) as caught:
        parse(flags)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--datset", "irmas"], "unknown flag --datset (did you mean '--dataset'?); see --help"),
        (["--frozn=m.json"], "unknown flag --frozn (did you mean '--frozen'?); see --help"),
        (["--runner=DirectRunner"], "--dataset NAME is missing; --list shows the names"),
    ],
)
def test_where_the_dataset_is_missing_a_flag_that_is_misspelt_is_named(flags, message):
    with pytest.raises(UsageError) as caught:
        parse(flags)

    assert str(caught.value) == message


def test_the_listing_needs_no_dataset():
    assert parse(["--list"])[0].list


def test_abbreviations_are_not_guessed():
    assert parse(["--dataset", "irmas", "--data", "x"])[1] == ["--data", "x"]


def test_help_names_the_exit_codes():
    assert "75 try later" in build_parser().format_help()


def test_flags_that_are_not_ours_are_left_for_beam():
    _, rest = parse(["--dataset", "irmas", "--direct-num-workers", "2", "--runner=X", "--dry-run"])

    assert rest == ["--direct-num-workers", "2", "--runner=X"]


# --- Beam's


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--runner=DirectRunner"],
        ["--runner", "DirectRunner"],
        ["--runner=FnApiRunner"],
        ["--runner=directrunner"],
        ["--runner=direct"],
    ],
)
def test_the_local_runner_is_pinned(flags):  # Beam's DirectRunner chooses between implementations at run time
    assert pipeline_options(flags).view_as(StandardOptions).runner == "FnApiRunner"


def test_another_runner_is_left_alone():
    options = pipeline_options(["--runner=PortableRunner", "--job-endpoint=localhost:18099"])

    assert options.view_as(StandardOptions).runner == "PortableRunner"
    assert options.get_all_options()["job_endpoint"] == "localhost:18099"


@pytest.mark.parametrize(
    "flags",
    [
        ["--direct_num_workers=2", "--direct_running_mode=multi_processing"],
        ["--direct-num-workers", "2", "--direct-running-mode", "multi_processing"],
        ["--direct_num-workers=2", "--direct-running_mode=multi_processing", "--runner=DirectRunner"],
    ],
)
def test_beams_flags_pass_with_dashes_or_underscores(flags):
    options = pipeline_options(flags).view_as(DirectOptions)

    assert (options.direct_num_workers, options.direct_running_mode) == (2, "multi_processing")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--direct_num_worker=2"],
            "unknown flag --direct_num_worker (did you mean '--direct_num_workers'?); see",
        ),
        (["--direct-num-worker", "2"], "unknown flag --direct_num_worker (did you mean '--direct_num_workers'?); see"),
        (["--mirorr=x"], "unknown flag --mirorr (did you mean '--mirror'?); see --help"),
        (["--zzzzzz"], "unknown flag --zzzzzz; see --help"),
        (["-x"], "unknown flag -x"),
        (["irmas"], "unexpected argument 'irmas'; see --help"),
        (["--direct_num_workers=2", "irmas"], "unexpected argument 'irmas'; see --help"),
    ],
)
def test_what_neither_of_us_knows_is_a_usage_error_that_names_the_nearest(flags, message):
    with pytest.raises(UsageError) as caught:
        pipeline_options(flags, flag_names())

    assert str(caught.value).startswith(message)
