"""FluidSynth as a function, and the commands that use it: same bytes, exact labels, clear errors."""

import hashlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import ROOT, built, no_fluidsynth

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import read_manifest
from tutti.datasets.record import ABSENT, DRUMS, PRESENT, Clip, Label, Media, Note, Recording
from tutti.datasets.scores.composing import compose, solo
from tutti.datasets.scores.general_midi import instrument_of
from tutti.datasets.scores.playing import playing_of, sounding
from tutti.datasets.scores.score import Score, read_midi, write_midi
from tutti.datasets.scores.soundfonts import find_soundfonts, open_soundfont
from tutti.datasets.scores.variation import Performance, Room, vary
from tutti.datasets.sources.rendered import Rendered
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.render import media
from tutti.pipelines.render.__main__ import main as render
from tutti.pipelines.render.synthesizer import synthesize, volume_of

DRY = Room(level=0.0)


pytestmark = pytest.mark.skipif(bool(no_fluidsynth()), reason=no_fluidsynth())


@pytest.fixture(scope="module")
def font():
    return find_soundfonts()[0]


def note(onset_s, offset_s, pitch, program, velocity=90):
    return Note(onset_s, offset_s, pitch, program, instrument_of(program), velocity)


def level_db(waveform, start_s, end_s, rate):
    part = waveform[..., round(start_s * rate) : round(end_s * rate)]
    return 10 * np.log10(np.mean(np.square(part, dtype=np.float64)) + 1e-12)


def sha256(waveform):
    return hashlib.sha256(np.ascontiguousarray(waveform).tobytes()).hexdigest()


# --- the synthesizer


def test_the_same_performance_has_the_same_bits_after_another_and_in_another_process(font):
    performance = vary(compose(0, 2), seed=0, variant=1)
    first = sha256(synthesize(performance, font, sample_rate=16_000).mix)
    synthesize(vary(compose(0, 1), seed=0, variant=1), font, sample_rate=32_000)
    code = (
        "import hashlib; from tutti.datasets.scores.composing import compose; "
        "from tutti.datasets.scores.variation import vary; "
        "from tutti.datasets.scores.soundfonts import find_soundfonts; "
        "from tutti.pipelines.render.synthesizer import synthesize; "
        "p = vary(compose(0, 2), seed=0, variant=1); "
        "print(hashlib.sha256(synthesize(p, find_soundfonts()[0], sample_rate=16_000).mix.tobytes()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | {"CI": "1"}
    )

    assert sha256(synthesize(performance, font, sample_rate=16_000).mix) == first
    assert other.stdout.strip() == first


def test_a_note_sounds_at_its_pitch_from_its_onset_to_its_offset(font):
    score = Score((note(0.5, 1.5, 69, 73),), 1.5)  # a flute's A4
    rendering = synthesize(Performance(score, room=DRY), font, sample_rate=16_000)
    mono = rendering.mix.mean(axis=0)
    spectrum = np.abs(np.fft.rfft(mono[12_000:20_000] * np.hanning(8_000)))

    assert rendering.mix.shape == (2, 56_000)  # two seconds after the end
    assert abs(np.argmax(spectrum) * 2 - 440) <= 4  # Hz; a bin is 2 Hz
    assert level_db(mono, 0.0, 0.49, 16_000) < -100
    assert level_db(mono, 0.6, 1.4, 16_000) > -40
    assert level_db(mono, 2.5, 3.5, 16_000) < -100
    onset = np.argmax(np.abs(mono) > 1e-4) / 16_000
    assert 0.498 <= onset <= 0.530  # a block of 64 samples, and the flute's attack


def test_the_mix_is_the_sum_of_its_stems_and_each_stem_is_its_program_alone(font):
    score = Score((note(0, 1, 60, 0), note(0.2, 1, 67, 40), note(0.4, 0.6, 38, DRUMS)), 1.0)
    room = Room(0.4, 0.2, 0.5, 0.5)
    rendering = synthesize(Performance(score, room=room), font, sample_rate=16_000, stems=True)

    assert rendering.programs == (0, 40, DRUMS)
    assert np.array_equal(rendering.mix, rendering.stems.sum(axis=0))
    alone = synthesize(Performance(Score(score.notes[1:2], 1.0), room=room), font, sample_rate=16_000)
    assert np.allclose(rendering.stems[1], alone.mix, atol=1e-5)
    assert np.allclose(
        rendering.mix, synthesize(Performance(score, room=room), font, sample_rate=16_000).mix, atol=1e-5
    )


def test_overlapping_notes_of_one_pitch_end_each_for_itself(font):
    long, short = note(0, 3.0, 60, 19), note(1.0, 1.5, 60, 19)
    both = synthesize(Performance(Score((long, short), 3.0), room=DRY), font, sample_rate=16_000).mix

    assert level_db(both, 2.2, 2.9, 16_000) > -45  # the end of the short one does not end the long one
    assert level_db(both, 1.2, 1.4, 16_000) > level_db(both, 2.4, 2.6, 16_000) + 1


def test_velocity_gain_and_room_are_heard(font):
    def rendered(velocity=90, gain_db=0.0, room=DRY):
        score = Score((note(0, 1, 60, 0, velocity),), 1.0)
        return synthesize(Performance(score, {0: gain_db}, room=room), font, sample_rate=16_000).mix

    plain = level_db(rendered(), 0, 1, 16_000)
    assert level_db(rendered(velocity=60), 0, 1, 16_000) < plain - 3
    assert level_db(rendered(gain_db=6.0), 0, 1, 16_000) == pytest.approx(plain + 6.0, abs=0.3)
    assert level_db(rendered(gain_db=-6.0), 0, 1, 16_000) == pytest.approx(plain - 6.0, abs=0.3)
    tail = level_db(rendered(), 1.8, 2.4, 16_000)
    assert level_db(rendered(room=Room(0.6, 0.0, 0.5, 0.8)), 1.8, 2.4, 16_000) > tail + 20


@pytest.mark.parametrize(("gain_db", "volume"), [(0.0, 80), (6.0, 113), (-6.0, 57), (40.0, 127), (-99.0, 1)])
def test_a_gain_is_a_volume_by_the_soundfont_s_law(gain_db, volume):
    assert volume_of(gain_db) == volume


def test_more_parts_than_midi_has_channels_all_sound(font):
    notes = tuple(note(index * 0.2, index * 0.2 + 0.2, 55, program) for index, program in enumerate(range(40, 60)))
    rendering = synthesize(Performance(Score(notes, 4.0), room=DRY), font, sample_rate=16_000, stems=True)

    assert (rendering.programs, rendering.silent) == (tuple(range(40, 60)), ())
    assert all(level_db(stem, 0, 6, 16_000) > -70 for stem in rendering.stems)


def test_every_program_is_heard_at_both_ends_of_its_register(font):
    silent = []
    for program in (*range(112), DRUMS):
        playing = playing_of(program)
        notes = tuple(
            note(at_s, at_s + 0.7, pitch, program) for at_s, pitch in ((0.0, playing.lowest), (0.8, playing.highest))
        )
        mix = synthesize(Performance(Score(notes, 1.5), room=DRY), font, sample_rate=16_000, tail_s=0.0).mix
        silent += [
            (program, pitch) for start_s, pitch in ((0.0, playing.lowest), (0.8, playing.highest))
            if level_db(mix, start_s, start_s + 0.7, 16_000) < -70
        ]  # fmt: skip

    assert silent == []


def test_nothing_but_rests_is_silence(font):
    rendering = synthesize(Performance(Score((), 1.0)), font, sample_rate=16_000, stems=True)

    assert rendering.mix.shape == (2, 48_000)
    assert np.abs(rendering.mix).max() < 1e-6  # the reverberation's guard against denormals
    assert rendering.stems.shape == (0, 2, 48_000)


# --- are the labels true?


def test_labels_from_notes_agree_with_the_energy_of_the_stems(font):
    counts = np.zeros((2, 2), np.int64)  # frames by what the notes say, by what is heard
    for index in range(6):
        performance = vary(with_pauses(compose(3, index)), seed=3, variant=1)
        rendering = synthesize(performance, font, sample_rate=16_000, stems=True)
        for program, stem in zip(rendering.programs, rendering.stems, strict=True):
            counts += frame_counts(performance.score, program, stem.mean(axis=0))

    assert counts.sum(axis=1).min() > 500  # frames of 0.1 s
    assert counts[0, 0] / counts[0].sum() >= 0.95
    assert counts[1, 1] / counts[1].sum() >= 0.95


def with_pauses(score):
    """The score with every part at rest half of the time, so that there is silence to hear."""
    programs = sorted({n.program for n in score.notes})
    notes = tuple(n for n in score.notes if int(n.onset_s / 6 + programs.index(n.program)) % 2 == 0)
    return Score(notes, score.end_s)


def frame_counts(score, program, stem, frame_s=0.1, rate=16_000, level=-50.0):
    """Frames in which the notes are sure of a program: (says no, yes) x (not audible, audible) in its stem.

    Audible: at most 50 dB below the stem's loudest frame.
    """
    num_frames = int(score.end_s / frame_s)
    levels = np.array([level_db(stem, f * frame_s, (f + 1) * frame_s, rate) for f in range(num_frames)])
    audible = levels > levels.max() + level
    sure, maybe = np.zeros(num_frames, bool), np.zeros(num_frames, bool)
    for played in (n for n in score.notes if n.program == program):
        (start, end), (first, last) = sounding(played)
        for marked, begin, stop in ((sure, start, end), (maybe, first, last)):
            low, high = begin / frame_s, stop / frame_s
            if marked is sure:  # whole frames only, after the attack
                marked[int(np.ceil(low + 0.5)) : int(high)] = True
            else:
                marked[int(low) : int(np.ceil(high))] = True
    known = sure | ~maybe
    return np.array([[((sure == says) & (audible == hears) & known).sum() for hears in (0, 1)] for says in (0, 1)])


# --- what a build asks for


def test_a_recording_is_rendered_once_and_kept(font, tmp_path):
    cache = Cache(tmp_path)
    wanted = Recording(Media(Rendered("composed/0/000005", font.key, 32_000, 0, 1, "v1").address()), ())
    blob = media.render_recording(wanted, None, cache).media.sha256
    samples, rate = soundfile.read(io.BytesIO(cache.read_blob(blob)))
    before = cache.blob_path(blob).stat().st_mtime_ns

    assert media.render_recording(wanted, None, cache).media.sha256 == blob
    assert cache.blob_path(blob).stat().st_mtime_ns == before
    assert (rate, samples.ndim) == (32_000, 1)
    assert 0.01 < np.abs(samples).max() < 1.0


def test_a_note_beyond_the_keys_of_the_soundfont_is_found_out_and_what_it_stood_for_unknown(font):
    low, high = note(0, 1, 40, 43), note(1, 2, 60, 43)  # FluidR3's contrabass ends below middle C
    rendering = synthesize(Performance(Score((low, high), 2.0), room=DRY), font, sample_rate=16_000)
    if font.path.name == "FluidR3_GM.sf2":
        assert rendering.silent == (high,)
    labels = {"bass": Label(PRESENT, "score"), "piano": Label(ABSENT, "score")}
    clip = Clip("rendered/x@0", "rendered", "x", "x", "scores", labels, start_s=0.5, end_s=3.0, notes=(
        note(0, 0.5, 40, 43), note(0.5, 1.5, 60, 43),
    ))  # fmt: skip

    left = media.without(clip, [high])
    assert (left.notes, left.labels) == ((note(0, 0.5, 40, 43),), {"piano": Label(ABSENT, "score")})
    assert media.without(clip, [note(7, 8, 60, 43)]) is clip


def test_loud_music_is_made_quieter_not_clipped():
    loud = np.array([[0.0, 2.0, -4.0]], np.float32)
    samples, _ = soundfile.read(io.BytesIO(media.flac(loud, 16_000)), dtype="int16")

    assert samples.tolist() == [0, 16_056, -32_112]  # 0.98 of full scale


@pytest.mark.slow
def test_a_dataset_of_composed_music_has_exact_labels_and_the_same_root_digest_with_two_workers(tmp_path):
    flags = ("--dataset", "composed", "--set", "rendered.scores=3", "--set", "rendered.variants=1")
    one = built(*flags, "--output", str(tmp_path / "a"), "--cache-dir", str(tmp_path / "ca"))
    workers = ("--direct-running-mode", "multi_processing", "--direct-num-workers", "2")
    two = built(*flags, *workers, "--output", str(tmp_path / "b"), "--cache-dir", str(tmp_path / "cb"))
    rows = [row for row in read_manifest(tmp_path / "a").clip_rows() if row["status"] == "kept"]

    assert one["root_digest"] == two["root_digest"]
    assert one["clips"]["rejected"] == {}
    assert len(rows) >= 6
    for row in rows:
        assert {label[2] for label in row["labels"].values()} == {"score"}
        assert find_soundfonts()[0].key in row["recording"]


@pytest.mark.slow
def test_a_folder_of_midi_files_becomes_a_dataset_and_a_damaged_one_a_reason(tmp_path):
    (tmp_path / "scores" / "mid").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "scores" / "mid" / f"{number}.mid").write_bytes(write_midi(compose(0, number)))
    (tmp_path / "scores" / "mid" / "bad.mid").write_bytes(b"MThd")
    summary = built(
        "--dataset", "musescore_rendered", "--data-from", str(tmp_path / "scores"), "--output", str(tmp_path / "out"),
        "--set", "rendered.variants=2", "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip

    assert summary["clips"]["rejected"] == {"bad_score": 1}
    assert summary["clips"]["kept"] >= 6
    assert str(tmp_path) not in (tmp_path / "out" / "current" / "manifest" / "manifest.json").read_text()


# --- the command


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.mid"
    path.write_bytes(write_midi(Score((note(0, 1, 60, 0), note(0.5, 1.5, 67, 40)), 2.0)))
    return path


def test_the_command_writes_audio_notes_and_facts_that_belong_together(song, tmp_path, capsys):
    out = tmp_path / "out"
    assert render([str(song), "--output", str(out), "--variants", "2", "--stems", "--sample-rate", "16000"]) == 0
    summary = json.loads(capsys.readouterr().out)
    facts = json.loads((out / "song.json").read_text())
    mix, rate = soundfile.read(out / "song.flac", dtype="int16", always_2d=True)
    stems = [soundfile.read(path, dtype="int16")[0] for path in sorted((out / "song-stems").iterdir())]

    assert summary["renderings"] == 2
    assert sorted(path.name for path in out.iterdir()) == [
        "song-stems", "song-v1-stems", "song-v1.flac", "song-v1.json", "song-v1.mid", "song.flac", "song.json",
        "song.mid",
    ]  # fmt: skip
    assert [path.name for path in sorted((out / "song-stems").iterdir())] == [
        "000 Acoustic Grand Piano.flac", "040 Violin.flac",
    ]  # fmt: skip
    assert (rate, len(mix)) == (16_000, 64_000)
    assert np.abs(np.sum(stems, axis=0, dtype=np.int32) - mix).max() <= 1  # rounding
    assert facts["heard"] == {"piano": [[0.0, 1.0]], "violin": [[0.5, 1.5]]}
    assert facts["soundfont"]["sha256"] == find_soundfonts()[0].sha256
    assert len(read_midi((out / "song-v1.mid").read_bytes(), "v1").notes) == 2


def test_rendering_twice_gives_the_same_files(song, tmp_path):
    for name in ("a", "b"):
        assert render([str(song), "--compose", "1", "--output", str(tmp_path / name), "--sample-rate", "16000"]) == 0

    assert len(list((tmp_path / "a").iterdir())) == 6
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["song.flac", "song.json", "song-v1.mid"])
def test_a_file_of_the_users_is_never_replaced_by_a_rendering(name, song, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("{}")

    assert render([str(song), "--output", str(out), "--variants", "2", "--sample-rate", "16000"]) == 2

    assert f"{name}: is there, and this command did not write it; choose another --output" in capsys.readouterr().err
    assert [path.read_text() for path in out.iterdir()] == ["{}"]


def test_a_score_is_never_replaced_by_its_own_rendering(song, tmp_path, capsys):
    before = song.read_bytes()
    assert render([str(song), "--output", str(tmp_path)]) == 2
    assert "song.mid: is to be rendered, and would be replaced; choose another --output" in capsys.readouterr().err
    assert (song.read_bytes(), [path.name for path in tmp_path.iterdir()]) == (before, ["song.mid"])


def test_an_earlier_rendering_is_replaced(song, tmp_path):
    command = [str(song), "--output", str(tmp_path / "out"), "--sample-rate", "16000"]
    assert render(command) == 0
    assert render(command) == 0


def test_a_damaged_file_is_skipped_and_named_and_the_rest_rendered(song, tmp_path, capsys):
    (tmp_path / "bad.mid").write_bytes(b"no midi")
    code = render([str(song), str(tmp_path / "bad.mid"), "--output", str(tmp_path / "out"), "--sample-rate", "16000"])
    captured = capsys.readouterr()

    assert code == 3
    assert "skipped: bad.mid: " in captured.err
    assert json.loads(captured.out)["skipped"] == {"bad": "bad_score"}
    assert (tmp_path / "out" / "song.flac").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to render; name MIDI files or folders, or --compose N"),
        (["nowhere.mid"], "does not exist; name MIDI files"),
        (["--compose", "1", "--variants", "0"], "--variants >= 1"),
        (["--compose", "1", "--soundfont", "nowhere.sf2"], "nowhere.sf2: No such file"),
    ],
)
def test_a_command_that_cannot_be_carried_out_says_why(arguments, message, tmp_path, capsys):
    assert render([*arguments, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_soundfont_that_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "broken.sf2").write_bytes(b"RIFF\x10\x00\x00\x00sfbkLIST" + bytes(64))
    with pytest.raises(UsageError, match=r"broken\.sf2: FluidSynth .* cannot load it; name another"):
        synthesize(Performance(solo(0, 0, 0)), open_soundfont(tmp_path / "broken.sf2"))


def test_without_the_library_the_remedy_is_named():
    code = (
        "import ctypes.util; ctypes.util.find_library = lambda name: None\n"
        "from tutti.pipelines.render.synthesizer import version\n"
        "try:\n    version()\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout.startswith("UsageError FluidSynth is not installed")
    assert "apt install fluidsynth fluid-soundfont-gm" in result.stdout
