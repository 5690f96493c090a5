"""Audibility: reasons why a file holds nothing to hear, and the value that shows each.

| reason | what is measured | value |
|---|---|---|
| channels_cancel | the mean of all channels is far weaker than that of unrelated ones would be | dB |
| silent | samples within an amplitude of zero or of an offset, in the file or in what is stored of it | share |
| silent | no measurable loudness | share |
| crest | the peak is far above what the loudest 5 ms reach: a spike | dB |
| crest | the true peak is far above the loudness: a spike, an offset or infrasound holds the rest down | dB |

Of 554 real recordings in ten corpora (music, single notes, stems) the mean of none is weaker than -1 dB against
unrelated channels, and no true peak is more than 27.5 dB above the loudness: the limits are 10 and 30 dB.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tutti.datasets.record import Decibels, Lufs

Downmix: TypeAlias = Literal["mean", "first", "loudest"]


@dataclass(frozen=True)
class AudibilityLimits:
    """Limits of the rules above."""

    max_silence_share: float = 0.8  # Lumen 2023, "Obvious outliers"
    max_cancelled_db: Decibels = 10.0
    max_crest_db: Decibels = 30.0


@dataclass(frozen=True)
class Audibility:
    """Measurements of an excerpt."""

    silence_share: float  # of the samples as upstream has them
    stored_silence_share: float  # of the samples after gain and resampling
    cancelled_db: Decibels | None  # None: one channel, or far from cancelling
    spike_db: Decibels | None  # None: the peak is no spike
    loudness_lufs: Lufs | None  # None: not measurable
    true_peak_dbtp: Decibels | None  # at the same gain; None: digital silence

    @property
    def crest_db(self) -> Decibels:
        """Peak to loudness ratio (AES TD1008)."""
        if self.loudness_lufs is None or self.true_peak_dbtp is None:
            return 0.0
        return self.true_peak_dbtp - self.loudness_lufs


@dataclass(frozen=True)
class Finding:
    """The reason that there is nothing to hear."""

    reason: str  # one word of the vocabulary in manifests/README.md
    value: float
    detail: str = ""  # for people


def judge(found: Audibility, limits: AudibilityLimits, *, rests: bool = False) -> Finding | None:
    """Decide whether there is anything to hear; None: there is.

    Args:
        found: what was measured.
        limits: from which value on it is nothing.
        rests: it may rest for most of its time, as a stem does.
    """
    cancelled, crest = found.cancelled_db, found.crest_db
    if cancelled is not None and cancelled > limits.max_cancelled_db:
        told = f"the mean of its channels loses {cancelled:.1f} dB: one of them is inverted; take one channel instead"
        return Finding("channels_cancel", cancelled, told)
    if not rests and found.silence_share > limits.max_silence_share:
        return Finding("silent", found.silence_share)
    if found.loudness_lufs is None:
        return Finding("silent", found.silence_share, "no measurable loudness")
    if (spike := found.spike_db) is not None and spike > limits.max_crest_db:
        return Finding("crest", spike, f"its peak is {spike:.1f} dB above all but 5 ms of it: a spike, not music")
    if crest > limits.max_crest_db:
        told = f"its peak is {crest:.1f} dB above its loudness: a spike, an offset or infrasound, not music"
        return Finding("crest", round(crest, 3), told)
    if not rests and found.stored_silence_share > limits.max_silence_share:
        return Finding("silent", found.stored_silence_share, "what is stored of it: its peaks leave no more gain")
    return None


def finding_text(finding: Mapping[str, Any]) -> str:
    """Write why there is nothing to hear in a file."""
    return f"{finding['reason']} ({finding['detail']})" if finding["detail"] else str(finding["reason"])
