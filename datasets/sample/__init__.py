"""The built-in sample: a synthesized miniature mirror of IRMAS, OpenMIC-2018, AudioSet, NSynth and Slakh.

MedleyDB and Mixing Secrets, which nobody may serve, lie below `user/` as a person has them on disk.

    python -m datasets.sample ROOT [--seed N] [--scale N]

Eleven instruments are synthesized with numpy and laid out in the publishers' archive names,
folders, file names, label formats and quirks, with known defects (TRUTH.json), so that a build
from it meets everything that it meets in the real corpora, without network and licences.
"""

from tutti.datasets.sample.mirror import SampleSize, sample_key, write_sample_mirror

__all__ = ["SampleSize", "sample_key", "write_sample_mirror"]
