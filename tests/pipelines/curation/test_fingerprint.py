"""The fingerprint's words: their size, what changes them, and which copies of real recordings they survive."""

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from signals import Waveform, encoded, noise, silence

from tutti.datasets import audio
from tutti.pipelines.curation.fingerprint import SILENT, Agreement, Words, agreement, fingerprint
from tutti.pipelines.curation.near_duplicates import find_near_duplicates
from tutti.pipelines.rows import Match


def pcm(duration_s: float = 3.0, *, seed: int = 0, scale: float = 0.1) -> NDArray[np.int16]:
    """White noise, mono int16 at 16 kHz."""
    return (noise(duration_s, amplitude=scale, sample_rate=16_000, seed=seed)[0] * 32767).astype(np.int16)


Samples = NDArray[np.int16]


def words(*values: int) -> Words:
    return np.array(values, np.uint32)


def test_ten_seconds_take_2436_bytes():
    found = fingerprint(pcm(10.0))

    assert len(found.data) == 2436  # (160,000 - 4,096) // 256 words of 4 bytes
    assert found.num_samples == 160_000
    assert found.duration_s == 10.0


@pytest.mark.parametrize(("num_samples", "num_words"), [(0, 0), (4_351, 0), (4_352, 1), (4_606, 1), (4_608, 2)])
def test_a_word_needs_two_windows(num_samples, num_words):
    assert len(fingerprint(pcm(1.0)[:num_samples]).words) == num_words


def test_the_same_samples_give_the_same_bytes():
    samples = pcm()

    assert fingerprint(samples) == fingerprint(samples.copy())
    assert pickle.loads(pickle.dumps(fingerprint(samples))) == fingerprint(samples)


def test_gain_changes_almost_no_bit():
    loud = pcm(scale=0.2)
    quiet = np.rint(loud * 0.1).astype(np.int16)

    assert agreement(fingerprint(loud).words, fingerprint(quiet).words, 0).bit_error_rate < 0.01


def test_swapped_polarity_changes_no_bit():
    samples = pcm()

    assert agreement(fingerprint(samples).words, fingerprint(-samples).words, 0).bit_error_rate < 0.001


def test_a_shift_by_whole_hops_moves_the_words():
    samples = pcm()

    shifted = agreement(fingerprint(samples).words, fingerprint(samples[2_560:]).words, 10)

    assert shifted.bit_error_rate < 0.01
    assert shifted.num_words == 161  # 171 but for the ten that were cut off


def test_a_shift_by_half_a_hop_changes_fewer_bits_than_one_in_ten():
    samples = pcm()

    assert 0.01 < agreement(fingerprint(samples).words, fingerprint(samples[128:]).words, 0).bit_error_rate < 0.1


def test_unrelated_sounds_differ_in_half_of_their_bits():
    found = agreement(fingerprint(pcm(10.0, seed=1)).words, fingerprint(pcm(10.0, seed=2)).words, 0)

    assert found.bit_error_rate == pytest.approx(0.5, abs=0.03)


def test_every_bit_is_used():
    found = fingerprint(pcm(10.0)).words

    shares = [np.mean((found >> bit) & 1) for bit in range(32)]
    assert min(shares) > 0.4
    assert max(shares) < 0.6


def test_silence_has_only_silent_words_and_sound_has_none():
    assert not fingerprint(silence(2.0, sample_rate=16_000)[0].astype(np.int16)).words.any()
    assert np.all(fingerprint(pcm()).words != SILENT)


def test_hiss_of_the_last_bit_is_silence():
    rng = np.random.default_rng(0)

    hiss = rng.integers(-1, 2, 32_000).astype(np.int16)  # 90 dB below full scale

    assert not fingerprint(hiss).words.any()


def test_sound_54_db_below_full_scale_is_not_silence():
    assert np.all(
        fingerprint(pcm(scale=0.003)).words != SILENT
    )  # its standard deviation: -50 dB, within our bands -54 dB


@pytest.mark.parametrize(
    "samples",
    [np.zeros((1, 16_000), np.int16), np.zeros(16_000, np.float32)],
    ids=["channels", "float"],
)
def test_anything_but_mono_int16_is_an_error(samples):
    with pytest.raises(ValueError, match="expected mono int16"):
        fingerprint(samples)


# --- agreement


def test_agreement_counts_the_bits_that_differ_along_the_overlap():
    a, b = words(1, 3, 7, 15), words(7, 14)

    assert agreement(a, b, 2) == Agreement(bit_error_rate=1 / 64, worst=1 / 64, num_words=2)


def test_agreement_with_a_negative_offset_lays_b_before_a():
    assert agreement(words(7, 14), words(1, 3, 7, 15), -2) == Agreement(1 / 64, 1 / 64, 2)


def test_agreement_leaves_silence_out():
    assert agreement(words(SILENT, 5, 5), words(9, SILENT, 5), 0) == Agreement(0.0, 0.0, 1)


@pytest.mark.parametrize("offset", [2, -2, 100])
def test_agreement_without_overlap_is_chance(offset):
    assert agreement(words(1, 2), words(1, 2), offset) == Agreement(0.5, 0.5, 0)


def test_agreement_of_silence_alone_is_chance():
    assert agreement(words(SILENT, SILENT), words(SILENT, SILENT), 0) == Agreement(0.5, 0.5, 0)


def test_agreement_names_the_worst_half_second():
    a = np.full(128, 0xFFFFFFFF, np.uint32)
    b = a.copy()
    b[48:80] = 0x0000FFFF  # 32 words, half of the bits

    assert agreement(a, b, 0) == Agreement(bit_error_rate=0.125, worst=0.5, num_words=128)


# --- what it survives: copies of real recordings, made from the upstream files as another uploader would


def prepared(waveform: Waveform, sample_rate: int) -> Samples:
    """Mono, 16 kHz, -12 LUFS below a true peak of -1 dB: what the build stores."""
    mono = audio.resample(audio.to_mono(waveform), sample_rate, 16_000)
    loudness, peak = audio.measure_loudness(mono, 16_000), audio.true_peak_dbtp(mono, 16_000)
    gain_db = audio.loudness_gain_db(loudness, peak, target_lufs=-12.0, max_true_peak_dbtp=-1.0, max_gain_db=40.0)
    return audio.to_int16(audio.apply_gain(mono, gain_db))


def decoded(data: bytes) -> Samples:
    file = audio.decode(data, "copy")
    return prepared(file.waveform, file.sample_rate)


def mp3(waveform: Waveform, sample_rate: int, kbit: int) -> bytes:
    """A stereo MP3 at a constant bit rate."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp3") as file:
        stream = file.add_stream("libmp3lame", rate=sample_rate, layout="stereo")
        stream.bit_rate = kbit * 1000
        stream.codec_context.options = {"compression_level": "7"}  # a fast, plain encoder
        stereo = np.broadcast_to(waveform, (2, waveform.shape[1]))
        for start in range(0, stereo.shape[1], 1152):  # a frame of MPEG layer III
            part = np.ascontiguousarray(stereo[:, start : start + 1152])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = sample_rate, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


def combined(waveform: Waveform, rate: int) -> Samples:
    """50 ms later, half as loud, one channel, 32 kHz, MP3 at 64 kbit/s."""
    moved = soxr.resample(0.5 * waveform[0, round(0.05 * rate) :], rate, 32_000)[None]
    return decoded(mp3(moved.astype(np.float32), 32_000, 64))


def window(waveform: Waveform, rate: int) -> Samples:
    """The last two seconds, re-encoded."""
    return decoded(mp3(waveform[:, -2 * rate :], rate, 96))


def drifting(waveform: Waveform, rate: int) -> Samples:
    """Played by a clock that is 150 ppm slow, re-encoded, cut 0.37 s later."""
    slow = soxr.resample(waveform.T.astype(np.float64), 1e6, 1e6 + 150, quality="VHQ").T
    return decoded(mp3(slow[:, round(0.37 * rate) :].astype(np.float32), rate, 64))


def hissing(waveform: Waveform, rate: int) -> Samples:
    """White noise 20 dB below."""
    white = np.random.default_rng(0).standard_normal(waveform.shape) * np.sqrt(np.mean(waveform**2)) / 10
    return prepared((waveform + white).astype(np.float32), rate)


CHANGES: dict[str, Callable[[Waveform, int], Samples]] = {
    "mp3 at 128 kbit/s": lambda waveform, rate: decoded(mp3(waveform, rate, 128)),
    "mp3 at 64 kbit/s": lambda waveform, rate: decoded(mp3(waveform, rate, 64)),
    "ogg vorbis": lambda waveform, rate: decoded(
        encoded(waveform, sample_rate=rate, kind="OGG", subtype="VORBIS"),
    ),
    "12 dB lower": lambda waveform, rate: prepared(waveform * np.float32(0.25), rate),
    "50 ms later": lambda waveform, rate: prepared(waveform[:, round(0.05 * rate) :], rate),
    "one channel at 16 kHz": lambda waveform, rate: decoded(
        encoded(soxr.resample(waveform[:1].T, rate, 16_000).T, sample_rate=16_000),
    ),
    "combined": combined,
    "mp3 at 32 kbit/s": lambda waveform, rate: decoded(mp3(waveform, rate, 32)),
    "a clock 150 ppm slow": drifting,
    "white noise at 20 dB": hissing,
    "its last two seconds": window,
}


def pairs(matches: list[Match]) -> set[tuple[str, str]]:
    return {(match.id_a, match.id_b) for match in matches}


@pytest.fixture(scope="module")
def originals(shared: Path) -> dict[str, tuple[Waveform, int]]:
    """Upstream audio of 24 IRMAS and 8 OpenMIC clips: name -> waveform and rate."""
    zenodo = shared / "mirror" / "zenodo.org" / "records"
    truth = json.loads((shared / "mirror" / "TRUTH.json").read_text(encoding="utf-8"))
    unfit = {Path(name).name for name in [*truth["silent"], *truth["short"], *truth["undecodable"]]}
    found: dict[str, tuple[Waveform, int]] = {}
    with zipfile.ZipFile(zenodo / "1290750" / "files" / "IRMAS-TrainingData.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith("__2.wav"))
        for name in names[:24]:
            found[name] = as_pair(archive.read(name))
    with tarfile.open(zenodo / "1432913" / "files" / "openmic-2018-v1.0.0.tgz") as tar:
        members = sorted((m for m in tar if m.name.endswith(".ogg")), key=lambda member: member.name)
        fit = [member for member in members if Path(member.name).stem not in unfit and member.name not in unfit]
        for member in fit[:8]:
            stream = tar.extractfile(member)
            assert stream is not None
            found[member.name] = as_pair(stream.read())
    return found


def as_pair(data: bytes) -> tuple[Waveform, int]:
    file = audio.decode(data, "original")
    return file.waveform, file.sample_rate


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_of_real_recordings_are_found_and_nothing_else(change, originals):
    clips = {f"{name} original": prepared(*original) for name, original in originals.items()}
    clips |= {f"{name} copy": CHANGES[change](*original) for name, original in originals.items()}

    matches = find_near_duplicates({id: fingerprint(samples) for id, samples in clips.items()}, load=clips.__getitem__)

    planted = {(f"{name} copy", f"{name} original") for name in originals}
    assert len(originals) == 32
    assert len(planted & pairs(matches)) >= 31  # .95 of 32 is 30.4
    assert pairs(matches) <= planted


def test_the_exact_duplicate_that_was_planted_among_the_videos_is_found(shared):
    watch = shared / "mirror" / "www.youtube.com" / "watch"
    clips = {video: decoded(next(watch.glob(f"{video}.*")).read_bytes()) for video in ("DEOjrH6pTp3", "ZEOjrH6pTp3")}

    matches = find_near_duplicates({id: fingerprint(samples) for id, samples in clips.items()}, load=clips.__getitem__)

    assert pairs(matches) == {("DEOjrH6pTp3", "ZEOjrH6pTp3")}
    assert (matches[0].offset_s, matches[0].score, matches[0].correlation) == (0.0, 1.0, 1.0)
