"""What a machine lacks is told as such, forgotten, and made good by the next build."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import signals
from conftest import ROOT

from tutti.datasets.errors import TryLaterError, YieldError
from tutti.datasets.machine import MACHINE_REASONS, MachineError
from tutti.datasets.manifest import Manifest
from tutti.pipelines.build.checks import check_yield
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.split import SplitConfig


def manifest(kept, **reasons):
    source = {"kept": kept, "pending": sum(reasons.values()), "reasons": reasons, "splits": {}}
    counts = {"kept": kept, "rejected": reasons, "splits": {}, "sources": {"irmas": source}, "present": {}}
    return Manifest(Path("nowhere"), {"counts": counts, "clips": []})


RECIPE = Recipe("r", sources={"irmas": None}, split=SplitConfig())


def test_every_reason_has_a_remedy_and_errors_with_others_are_refused():
    assert set(MACHINE_REASONS) == {
        "out_of_memory", "out_of_time", "out_of_processes", "decoder_killed", "decoder_crashed",
    }  # fmt: skip
    with pytest.raises(ValueError, match="'tired' is not one of out_of_memory"):
        MachineError("a.wav: no", "tired")


def test_the_error_travels_between_processes():
    error = pickle.loads(pickle.dumps(MachineError("a.wav: no memory", "out_of_memory")))  # ours alone

    assert (str(error), error.reason) == ("a.wav: no memory", "out_of_memory")


def test_a_source_that_is_lost_to_the_machine_is_to_be_tried_later_not_a_source_without_clips():
    with pytest.raises(TryLaterError) as caught:
        check_yield(manifest(0, out_of_time=7, undecodable=1), RECIPE)

    assert str(caught.value) == (
        "irmas: no clip was kept; this machine kept others from being worked on (out of time: 7 clips). "
        "raise `ulimit -t`, or wait until the machine is less busy; then run the build again"
    )


def test_a_source_without_clips_is_what_it_was():
    with pytest.raises(YieldError, match=r"^irmas: no clip was kept; reasons: \{'undecodable': 8\}$"):
        check_yield(manifest(0, undecodable=8), RECIPE)


def test_a_yield_that_only_the_machine_spoiled_is_to_be_tried_later():
    with pytest.raises(TryLaterError, match=r"^irmas: kept 50\.0% of its clips; .*out of memory: 4 clips"):
        check_yield(manifest(5, out_of_memory=4, undecodable=1), RECIPE, min_yield=0.9)
    with pytest.raises(YieldError, match=r"kept 50\.0% of its clips, less than --min-yield"):
        check_yield(manifest(5, out_of_memory=1, undecodable=4), RECIPE, min_yield=0.9)


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from tutti.datasets.errors import TryLaterError
from tutti.train.reading.mono import load_mono

class Level:
    sample_rate, target_lufs, max_gain_db = 16_000, -12.0, 40.0

load_mono(Path(sys.argv[1]), Level)  # all that it imports
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (24 << 20),) * 2)
try:
    load_mono(Path(sys.argv[2]), Level)
except TryLaterError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_a_user_s_file_that_memory_does_not_suffice_for_is_not_called_damaged(tmp_path, kind):
    short, long = tmp_path / "short.wav", tmp_path / "long.wav"
    short.write_bytes(signals.encoded(signals.noise(1.0)))
    long.write_bytes(signals.encoded(signals.silence(400.0), kind=kind))
    command = [sys.executable, "-c", LITTLE_MEMORY, str(short), str(long)]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    told = f"{long}: not enough memory to decode it; free memory or raise `ulimit -v`\n"
    assert (result.returncode, result.stdout) == (0, told), result.stderr
