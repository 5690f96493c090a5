"""Arithmetic that gives the same bits on every x86 processor: for the features of the embedders.

    decibels = np.float32(10) * log10(power)         log_bins = banded(filters_BF) ; log_bins(power_TF)

A BLAS picks its kernel by processor, and each kernel adds in an order of its own; numpy's logarithms and powers use
other instructions where there are others. What always gives the same bits is what IEEE 754 defines to the last one
(+ - * / and the square root, element by element), numpy's own sums, and compiled code that makes no choice at run
time, as that of scipy's sparse matrices and Fourier transforms. So nothing here or in `logmel.py` uses more than that.
Shapes: T frames, F bins, B bands.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_BLOCK = 1 << 15  # numbers: their four buffers stay in a core's cache
_TWO_THIRDS = 0x3F2AAAAB  # the bits of 2/3 as float32
_SERIES = [np.float32(2 / math.log(2) / odd) for odd in (1, 3, 5, 7)]
_LOG10_OF_2, _LN_OF_2 = np.float32(math.log10(2)), np.float32(math.log(2))


def log2(x: Array) -> Array:
    """Compute the logarithm to base 2 of positive normal float32 numbers, of any shape; 1e-6 exact.

    x = 2**e * m with m in [2/3, 4/3); log2(m) = 2 artanh(s) / ln 2 with s = (m - 1) / (m + 1), |s| <= 0.2, as a series.
    """
    given = np.ascontiguousarray(x, np.float32)
    result = np.empty_like(given)
    flat, out = given.reshape(-1), result.reshape(-1)
    size = min(_BLOCK, flat.size)
    exponents, mantissas = np.empty(size, np.int32), np.empty(size, np.int32)
    ratios, squares = np.empty(size, np.float32), np.empty(size, np.float32)
    for start in range(0, flat.size, _BLOCK):
        bits, y = flat[start : start + _BLOCK].view(np.int32), out[start : start + _BLOCK]
        e, m, s, square = (buffer[: bits.size] for buffer in (exponents, mantissas, ratios, squares))
        np.right_shift(np.subtract(bits, _TWO_THIRDS, out=e), 23, out=e)
        np.subtract(bits, np.left_shift(e, 23, out=m), out=m)
        f = m.view(np.float32)
        np.add(f, 1, out=s)
        np.divide(np.subtract(f, 1, out=f), s, out=s)
        np.multiply(s, s, out=square)
        np.multiply(square, _SERIES[3], out=y)
        for coefficient in (_SERIES[2], _SERIES[1]):
            np.multiply(np.add(y, coefficient, out=y), square, out=y)
        np.multiply(np.add(y, _SERIES[0], out=y), s, out=y)
        np.add(y, e, out=y, dtype=np.float32, casting="unsafe")  # exponents have 8 bits
    return result


def log10(x: Array) -> Array:
    """Compute the logarithm to base 10 of positive normal numbers."""
    return log2(x) * _LOG10_OF_2


def ln(x: Array) -> Array:
    """Compute the natural logarithm of positive normal numbers."""
    return log2(x) * _LN_OF_2


def squares_of(spectrum: NDArray[np.complex64]) -> Array:
    """Compute |z|^2 of complex numbers; numpy's own absolute value differs between processors."""
    return np.square(spectrum.real) + np.square(spectrum.imag)


def constant(values: NDArray[np.float64]) -> Array:
    """Round numbers that a mathematical library computed, whose last bits differ, to float32 that do not."""
    return np.round(values, 12).astype(np.float32)


def banded(filters_BF: Array) -> Callable[[Array], Array]:
    """Make the function (T, F) -> (T, B) that applies filters of which each covers few bins, in the order of the bins.

    Faster than a BLAS: of triangles on a bank of 2,049 bins 1 weight of 90 is not zero.
    """
    from scipy.sparse import csr_array  # a tenth of a second, which builds without an embedder need not spend

    sparse_BF = csr_array(filters_BF)

    def apply(power_TF: Array) -> Array:
        bands_TB: Array = np.ascontiguousarray((sparse_BF @ power_TF.T).T)
        return bands_TB

    return apply
