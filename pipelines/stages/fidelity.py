"""Fidelity: clips of low sound quality, where a recipe asks for it. One reason per clip, the first that fits.

| reason | rule | suggested |
|---|---|---|
| low_bit_rate | a lossy file has fewer bits per second than `min_bit_rate` | 48000 |
| clipped | more than `max_clipped_share` of the native samples are on flat tops, or beyond full scale | .001 |
| narrow_band | the spectrum ends at once below `min_bandwidth_hz` | 6000 |
| noisy | steady hiss lies above `max_noise_floor_db`, against the whole | -22 |

All are off. The suggested thresholds come from what is done to recordings, not from a corpus: a sample rate of 11 kHz,
MP3 (stereo) and AAC at 32 kbit/s end the band below 6 kHz; unclipped recordings have at most 5 flat samples in 100,000,
with 6 dB of clipping 300 and more; white noise 20 dB below the music, within the stored band, reads -17 to -20.

Of 319 clips of real recordings the suggested ones refuse one, a distorted guitar. Of copies of 38 they refuse 38
through a rate of 8 or 11 kHz, 38 after AAC and 30 after stereo MP3 at 32 kbit/s, 38 with 6 dB of clipping, 18 with 3
dB, 38 with white noise at 10 dB; none after MP3 at 64. Not seen: codecs that keep the band (MP3 at 32 in mono, Opus;
only `min_bit_rate` knows them, from the file as it came), most clipping behind a lossy encoder (6 of 38), noise at 20
dB over two channels up to 22 kHz (mixed and within 8 kHz it is at 27 dB), hum and rumble. Refused wrongly: square
waves, sub-basses without partials on flat tops, the noise of a distorted guitar. A file with a picture has the bits
of both.

Bandwidth and hiss are measured on the stored samples (`curation/sound_quality.py`) and remembered in the cache, where
they are asked for; clipping and bit rate are facts of `prepare`.
"""

from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass

from tutti.datasets.manifest import digest_of
from tutti.datasets.record import Clip, Decibels, Rejected, StoredAudio
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.curation.sound_quality import CODE_VERSION, SAMPLE_RATE, SoundQuality, sound_quality
from tutti.pipelines.stages.embed import samples_of


@dataclass(frozen=True)
class FidelityConfig:
    """Thresholds of the rules above; None: off."""

    min_bit_rate: int | None = None  # bit/s of the upstream file
    min_bandwidth_hz: float | None = None
    max_clipped_share: float | None = None  # of the native samples
    max_noise_floor_db: Decibels | None = None  # against the whole clip

    def __post_init__(self) -> None:
        """Refuse thresholds outside what is measured."""
        if self.min_bit_rate is not None and self.min_bit_rate < 0:
            raise ValueError(f"min_bit_rate {self.min_bit_rate} is below 0")
        if self.min_bandwidth_hz is not None and not 0 <= self.min_bandwidth_hz <= SAMPLE_RATE / 2:
            raise ValueError(f"min_bandwidth_hz {self.min_bandwidth_hz} is outside 0 to {SAMPLE_RATE // 2}")
        if self.max_clipped_share is not None and not 0 <= self.max_clipped_share <= 1:
            raise ValueError(f"max_clipped_share {self.max_clipped_share} is outside 0 to 1")
        if self.max_noise_floor_db is not None and not -100 <= self.max_noise_floor_db <= 0:
            raise ValueError(f"max_noise_floor_db {self.max_noise_floor_db} is outside -100 to 0")

    def is_on(self) -> bool:
        """Whether any rule is asked for."""
        return any(value is not None for value in astuple(self))


def fidelity(clip: Clip, *, config: FidelityConfig, cache: Cache) -> Clip | Rejected:
    """Refuse a clip of low sound quality; the row has the measured value."""
    if clip.audio is None:
        raise ValueError(f"{clip.id}: has no stored audio; run prepare before fidelity")
    for reason, value, detail in _findings(clip.audio, config, cache):
        return Rejected(clip, stage="fidelity", reason=reason, value=value, detail=detail)
    return clip


def _findings(audio: StoredAudio, config: FidelityConfig, cache: Cache) -> Iterator[tuple[str, float, str]]:
    """Yield (reason, value, detail) of each rule that a clip breaks; samples are read where no fact suffices."""
    rate, share = audio.bit_rate, audio.clipped_share
    if config.min_bit_rate is not None and rate is not None and rate < config.min_bit_rate:
        yield "low_bit_rate", rate, f"{rate / 1000:.1f} kbit/s of {audio.codec}"
    if config.max_clipped_share is not None and share is not None and share > config.max_clipped_share:
        yield "clipped", share, f"{100 * share:.2f} % of the samples are clipped"
    if config.min_bandwidth_hz is not None:
        bandwidth_hz = measured(audio, cache).bandwidth_hz
        if bandwidth_hz < config.min_bandwidth_hz:
            yield "narrow_band", bandwidth_hz, f"the spectrum ends at {bandwidth_hz:.0f} Hz"
    if config.max_noise_floor_db is not None:
        floor_db = measured(audio, cache).noise_floor_db
        if floor_db > config.max_noise_floor_db:
            yield "noisy", floor_db, f"steady noise at {floor_db:.1f} dB of the whole"


def measured(audio: StoredAudio, cache: Cache) -> SoundQuality:
    """Measure the stored samples of a clip, once."""
    key = digest_of([audio.pcm_sha256, CODE_VERSION])
    if (known := cache.result("fidelity", key)) is not None:
        return SoundQuality(**known)
    if audio.sample_rate != SAMPLE_RATE:
        raise ValueError(f"bandwidth and noise are measured at {SAMPLE_RATE} Hz, not at {audio.sample_rate}")
    found = sound_quality(samples_of(audio.blob, cache))
    cache.remember("fidelity", key, asdict(found))
    return found
