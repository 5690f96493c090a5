"""Transforms that vary the data: batched torch, one file each, random only through a generator that the caller passes.

    labels.py      OR, convex and unknown: how labels combine, in one place
    batch.py       Batch: signals and what is known about their labels
    transform.py   what a transform is, and the registry: every file in transforms/ is one
    transforms/    gain.py, pitch_shift.py, sum_with_n.py, ...
    chain.py       several transforms, each with a probability, in a fixed or a random order per example
    presets.py     the papers' chains

    batch = batch_of(waveform_BT, presence_BC, sample_rate=16_000)
    batch = lumen_best()(batch, generator_for(seed, epoch, index))

All random parameters are drawn on the CPU, for every example its own, so that CPU and GPU vary a
batch alike. Imports datasets only.
"""

import tutti  # noqa: F401  makes the short name mean the full one
