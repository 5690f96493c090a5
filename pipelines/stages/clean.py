"""Clean: what no training set should hold. One reason per clip, the first that fits.

| reason | rule | source |
|---|---|---|
| truncated | decoded length off the declared one by > 0.1 s, or the container ends early | OpenMIC, AudioSet |
| damaged | a part of the clip is lost or cannot be decoded: a broken frame or page | real archives |
| too_short | < 1 s | Lumen 2023, "Obvious outliers" |
| channels_cancel | the mean of the channels is > 10 dB weaker than unrelated ones would be | `datasets/audibility.py` |
| silent | amplitude < 0.001 for > 80 % of the samples, or no measurable loudness | Lumen 2023 |
| crest | true peak > 30 dB above the loudness: a spike, an offset, infrasound | `datasets/audibility.py` |
| silent | a stem never sounds; that it rests for most of its song is no fault | |
| noise | a stem is white noise: spectral flatness of all that sounds > 0.9 | Slakh, nine stems |
| silent | mean amplitude < 0.0005, where a recipe asks for it | NSynth pre-training (Zhong 2023), its code |

Files that no decoder reads were rejected by prepare as `undecodable`; duplicates need to see
all clips and are found by `split`.
"""

from dataclasses import dataclass, replace

from tutti.datasets.audibility import Audibility, AudibilityLimits, Finding, judge
from tutti.datasets.record import Clip, Decibels, Rejected, Seconds, StoredAudio
from tutti.pipelines.curation.overrides import Override, apply_overrides


@dataclass(frozen=True)
class CleanConfig:
    """Thresholds of the rules above, and what people found wrong."""

    min_duration_s: Seconds = 1.0  # Lumen 2023, "Obvious outliers"
    max_silence_share: float = 0.8  # Lumen 2023, "Obvious outliers"
    min_mean_amplitude: float = 0.0  # of full scale; below: near-silent; 0: off. NSynth pre-training's code: 5e-4
    max_cancelled_db: Decibels = 10.0  # that the mean of the channels loses; music has less than 0
    max_crest_db: Decibels = 30.0  # true peak above loudness; music has up to 28
    max_duration_error_s: Seconds = 0.1  # of a declared duration
    max_flatness: float = 0.9  # of a stem; white noise has .97 to 1, shakers and cabasas .72: decoding/whiteness.py
    overrides: tuple[Override, ...] = ()  # corrected labels, ordered by clip; see overrides.py


def clean(clip: Clip, *, config: CleanConfig) -> Clip | Rejected:
    """Refuse a clip that no training set should hold; apply to others the labels that people corrected."""
    audio = clip.audio
    if audio is None:
        raise ValueError(f"{clip.id}: has no stored audio; run prepare before clean")
    duration_s = audio.native_num_samples / audio.native_sample_rate
    if clip.declared_s is not None and abs(duration_s - clip.declared_s) > config.max_duration_error_s:
        return _reject(clip, "truncated", duration_s, f"decoded {duration_s:.3f} s of {clip.declared_s:.3f} s")
    if not audio.complete:
        return _reject(clip, "truncated", duration_s, f"the file ends early, after {duration_s:.3f} s")
    if audio.damaged_s:
        return _reject(clip, "damaged", audio.damaged_s, f"{audio.damaged_s:.3f} s of it are lost or cannot be decoded")
    if duration_s < config.min_duration_s:
        return _reject(clip, "too_short", duration_s)
    if (mean := audio.mean_amplitude) is not None and mean < config.min_mean_amplitude:
        return _reject(clip, "silent", mean, f"near-silent: mean amplitude {mean:.6f}")
    if (finding := nothing_heard(clip, audio, config)) is not None:
        return _reject(clip, finding.reason, finding.value, finding.detail)
    return replace(clip, labels=apply_overrides(clip.id, clip.labels, config.overrides)) if config.overrides else clip


def nothing_heard(clip: Clip, audio: StoredAudio, config: CleanConfig) -> Finding | None:
    """Decide whether there is anything to hear in a clip; a stem rests for most of its song, and may be noise."""
    if audio.active is not None and not audio.active:
        return Finding("silent", audio.silence_share, "never sounds")
    if audio.active and audio.flatness is not None and audio.flatness > config.max_flatness:
        return Finding("noise", audio.flatness, "white noise in place of an instrument")
    measured = Audibility(
        silence_share=audio.silence_share,
        stored_silence_share=audio.stored_silence_share,
        cancelled_db=audio.cancelled_db,
        spike_db=audio.spike_db,
        loudness_lufs=audio.loudness_lufs,
        true_peak_dbtp=audio.true_peak_dbtp,
    )
    limits = AudibilityLimits(config.max_silence_share, config.max_cancelled_db, config.max_crest_db)
    return judge(measured, limits, rests=audio.active is not None)


def _reject(clip: Clip, reason: str, value: float, detail: str = "") -> Rejected:
    return Rejected(clip, stage="clean", reason=reason, value=round(value, 6), detail=detail)
