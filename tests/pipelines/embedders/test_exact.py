"""Features have the same bits on every processor: kernels of other processors are switched on by the environment."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from tutti.pipelines.embedders.exact import banded, constant, ln, log2, log10, squares_of

# What numpy, glibc, OpenBLAS, torch, oneDNN and MKL choose kernels by; SkylakeX falls back to what there is.
PROCESSORS = [
    {"OPENBLAS_CORETYPE": "Haswell"},
    {"OPENBLAS_CORETYPE": "SkylakeX"},
    {"OPENBLAS_CORETYPE": "Prescott"},
    {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    {"NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR"},
    {"NPY_DISABLE_CPU_FEATURES": "X86_V3,X86_V4,AVX512_ICL,AVX512_SPR"},
    {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F"},
    {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
]
PROGRAM = """
import hashlib, sys
import numpy as np
from tutti.pipelines.curation.fingerprint import fingerprint
from tutti.pipelines.embedders import builtin
rng, digest = np.random.default_rng(7), hashlib.sha256()
time_s = np.arange(100_000) / 16_000
for hertz in (110.0, 443.7, 1_500.0, 61.0):
    wave = sum(np.sin(2 * np.pi * n * hertz * time_s) / n for n in range(1, 9)) * np.exp(-time_s / 3)
    samples = np.rint(8_000 * wave / abs(wave).max() + 20 * rng.standard_normal(len(wave))).astype(np.int16)
    digest.update(builtin.load().embed([samples.astype(np.float32) / np.float32(32_768)]).tobytes())  # logmel's, too
    digest.update(fingerprint(samples).data)
print(digest.hexdigest())
"""


def test_the_built_in_embeddings_and_fingerprints_are_the_same_bits_on_every_processor_and_with_any_threads():
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS", "OMP", "NPY", "MKL"))
    }
    digests = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PROGRAM],
            cwd=ROOT, env={**plain, **processor}, capture_output=True, text=True, check=True,
        ).stdout
        for processor in PROCESSORS
    }  # fmt: skip

    assert len(digests) == 1


@pytest.mark.parametrize(
    ("ours", "reference"), [(log2, np.log2), (log10, np.log10), (ln, np.log)], ids=["log2", "log10", "ln"]
)
def test_logarithms_are_numpys_in_double_precision_to_a_millionth(ours, reference):
    x = np.concatenate([np.logspace(-37, 37, 200_001), np.linspace(0.5, 2, 100_001)]).astype(np.float32)

    np.testing.assert_allclose(ours(x), reference(x.astype(np.float64)), rtol=1e-6, atol=1e-6)


def test_the_logarithm_of_a_power_of_two_is_exact_and_shapes_are_kept():
    assert log2(np.float32([[0.25, 1.0], [2.0, 1024.0]])).tolist() == [[-2.0, 0.0], [1.0, 10.0]]
    assert log2(np.ones((0, 3), np.float32)).shape == (0, 3)
    assert log2(np.ones((5, 4), np.float32).T).shape == (4, 5)


def test_a_bank_of_filters_is_applied_as_a_matrix_is():
    filters_BF = np.float32([[0, 0.5, 1, 0.5, 0], [0, 0, 0, 0.25, 0.75]])
    power_TF = np.float32([[1, 2, 3, 4, 5], [0, 0, 8, 0, 0], [16, 0, 0, 4, 4]])

    assert banded(filters_BF)(power_TF).tolist() == [[6.0, 4.75], [8.0, 0.0], [2.0, 4.0]]


def test_squares_and_constants():
    assert squares_of(np.complex64([[3 + 4j, -1j]])).tolist() == [[25.0, 1.0]]
    assert constant(np.array([0.1, 0.1 + 1e-16])).tolist() == [np.float32(0.1)] * 2
