"""How a build's processes hold memory."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

PROBE = """
import json, os
from tutti.pipelines.engine.heap import decoder_environment, configure_allocator
configure_allocator()
import pyarrow
names = ("ARROW_DEFAULT_MEMORY_POOL", "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
found = {name: os.environ.get(name) for name in names}
print(json.dumps({"pool": pyarrow.default_memory_pool().backend_name, "workers": found,
                  "decoders": sorted(set(names) & decoder_environment().keys())}))
"""


def probed(**variables):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "ARROW_"))}
    command = [sys.executable, "-c", PROBE]
    result = subprocess.run(command, cwd=ROOT, env=plain | variables, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_workers_give_buffers_back_and_decoders_keep_them():
    found = probed()

    assert found["pool"] == "system"
    assert found["workers"] == {
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "4194304",
        "MALLOC_TRIM_THRESHOLD_": "16777216",
    }
    assert found["decoders"] == ["MALLOC_ARENA_MAX"]


@pytest.mark.parametrize("pool", ["system", "mimalloc"])
def test_what_the_user_has_set_stays(pool):
    found = probed(ARROW_DEFAULT_MEMORY_POOL=pool, MALLOC_ARENA_MAX="4")

    assert found["pool"] == pool
    assert found["workers"]["MALLOC_ARENA_MAX"] == "4"


@pytest.mark.parametrize(("call", "frozen"), [("pass", "0"), ("heap.skip_final_gc()", "1")])
def test_a_process_looks_for_no_garbage_at_its_end_where_it_says_so(call, frozen):
    ask = "import atexit, gc; atexit.register(lambda: print(int(gc.get_freeze_count() > 1000)))"
    command = [sys.executable, "-c", f"{ask}; from tutti.pipelines.engine import heap; {call}"]

    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == frozen
