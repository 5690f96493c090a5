"""A manifest names everything that decided its dataset, and whoever builds it with something else is told."""

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import signals
from conftest import built, no_fluidsynth, run_build
from midi_files import sound, tune, write_pair

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import canonical_json, digest_of, read_manifest
from tutti.datasets.scores.soundfonts import find_soundfonts
from tutti.datasets.sources import folder as folder_source
from tutti.datasets.sources.rendered import Config, read
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.diff.__main__ import main as diff
from tutti.pipelines.render import media, synthesizer
from tutti.pipelines.stages.curate import judging_tools
from tutti.pipelines.stages.embed import EmbedConfig
from tutti.pipelines.stages.manifest import TOOLS, tool_versions

RATE = 16_000


renders = pytest.mark.skipif(bool(no_fluidsynth()), reason=no_fluidsynth())
COMPOSED = ("--dataset", "composed", "--set", "rendered.scores=3", "--set", "rendered.variants=1")


def places(folder: Path, name: str) -> tuple[str, ...]:
    return "--output", str(folder / name), "--cache-dir", str(folder / "cache")


def content_of(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_manifest(output).content
    return content


def lock_file(output: Path, folder: Path, change: Callable[[dict[str, Any]], None] = lambda content: None) -> Path:
    """The manifest of a build alone, as it is shared."""
    shutil.copytree(output / "current" / "manifest", folder / "manifest")
    path = folder / "manifest" / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(canonical_json(content) + "\n", encoding="utf-8")
    return path


def notes(stderr: str) -> list[str]:
    return [line.removeprefix("note: ") for line in stderr.splitlines() if line.startswith("note: ")]


# --- rendered music


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a small rendered dataset."""
    folder = tmp_path_factory.mktemp("composed")
    built(*COMPOSED, *places(folder, "out"))
    return folder / "out"


@pytest.fixture(scope="module")
def other_font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A soundfont that sounds the same and is another file: a letter of its title differs."""
    path = tmp_path_factory.mktemp("fonts") / "other.sf2"
    data = bytearray(find_soundfonts()[0].path.read_bytes())
    data[data.index(b"INAM") + 8] ^= 1
    path.write_bytes(data)
    return path


@renders
@pytest.mark.slow
def test_a_rendered_manifest_names_its_soundfonts_and_fluidsynth(composed: Path) -> None:
    font = find_soundfonts()[0]
    content = content_of(composed)

    assert content["sources"]["rendered"]["inputs"] == [
        {
            "kind": "soundfont",
            "name": font.path.name,
            "num_bytes": font.path.stat().st_size,
            "sha256": hashlib.sha256(font.path.read_bytes()).hexdigest(),
        }
    ]
    assert content["tools"]["fluidsynth"] == synthesizer.version()
    assert content["tools"]["mido"] == importlib.metadata.version("mido")


@renders
@pytest.mark.slow
def test_a_frozen_build_without_the_manifests_soundfont_says_so_in_one_line_before_the_work(
    composed: Path, other_font: Path, tmp_path: Path
) -> None:
    listed = lock_file(composed, tmp_path)
    result = run_build("--frozen", str(listed), *places(tmp_path, "out"), env={"TUTTI_SOUNDFONTS": str(other_font)})

    ours, other = find_soundfonts()[0], hashlib.sha256(other_font.read_bytes()).hexdigest()
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(
        f"error: rendered: soundfont {ours.path.name} (sha256 {ours.sha256[:12]}) in the manifest, "
        f"other.sf2 (sha256 {other[:12]}) here: "
    )
    assert "set $TUTTI_SOUNDFONTS to that file" in result.stderr
    assert result.stderr.count("\n") == 1


@renders
@pytest.mark.slow
def test_a_frozen_build_with_another_fluidsynth_says_so_and_names_both(composed: Path, tmp_path: Path) -> None:
    listed = lock_file(composed, tmp_path, lambda content: content["tools"].update(fluidsynth="1.1.11"))
    result = run_build("--frozen", str(listed), *places(tmp_path, "out"))

    assert result.returncode == 0, result.stderr
    assert (
        f"fluidsynth 1.1.11 in the manifest, {synthesizer.version()} here: it may sound otherwise; install that version"
    ) in notes(result.stderr)


@renders
@pytest.mark.slow
def test_a_rebuild_with_another_soundfont_notes_it_and_diff_shows_it(
    composed: Path, other_font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(composed, tmp_path / "out", symlinks=True)
    before = read_manifest(tmp_path / "out")
    result = run_build(*COMPOSED, *places(tmp_path, "out"), env={"TUTTI_SOUNDFONTS": str(other_font)})
    assert result.returncode == 0, result.stderr

    (line,) = [line for line in notes(result.stderr) if "soundfont" in line]
    assert line.startswith(f"rendered: soundfont {find_soundfonts()[0].path.name} (sha256 ")
    assert f" in version {before.version}, other.sf2 (sha256 " in line
    assert line.endswith(" now")
    assert diff([str(before.folder), str(tmp_path / "out")]) == 0
    assert "sources.rendered.inputs.other.sf2" in capsys.readouterr().out


@renders
def test_a_recording_is_rendered_anew_by_another_fluidsynth_and_with_another_soundfont(
    other_font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[str] = []
    synthesize = synthesizer.synthesize
    monkeypatch.setattr(
        synthesizer, "synthesize", lambda *args, **how: rendered.append(args[1].path.name) or synthesize(*args, **how)
    )
    cache, first = Cache(tmp_path / "cache"), find_soundfonts()[0].path.name
    (recording,) = read({}, Config(scores=1))
    media.render_recording(recording, None, cache)
    media.render_recording(recording, None, cache)
    assert rendered == [first]

    version = synthesizer.version()
    monkeypatch.setattr(synthesizer, "version", lambda: f"{version}.1")
    media.render_recording(recording, None, cache)
    assert rendered == [first] * 2

    monkeypatch.setenv("TUTTI_SOUNDFONTS", str(other_font))
    (recording,) = read({}, Config(scores=1))
    media.render_recording(recording, None, cache)
    assert rendered == [first, first, "other.sf2"]


# --- files of the user's


def own_music(root: Path, text: str | None = None) -> Path:
    """Six takes and their labels."""
    root.mkdir(parents=True)
    lines = ["path,group,piano"]
    for number in range(6):
        wave = signals.sine(1.5, frequency_hz=220.0 + 40 * number, sample_rate=RATE)
        (root / f"{number}.wav").write_bytes(signals.encoded(wave, sample_rate=RATE))
        lines.append(f"{number}.wav,song {number},{number % 2}")
    (root / "labels.csv").write_text(text or "\n".join([*lines, ""]))
    return root


def build_folder(music: Path, folder: Path, name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    dataset = () if "--frozen" in flags else ("--dataset", "folder")
    return run_build(*dataset, "--data-from", str(music), *places(folder, name), *flags)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of music in `music`, built into `out`."""
    folder = tmp_path_factory.mktemp("own")
    result = build_folder(own_music(folder / "music"), folder, "out")
    assert result.returncode == 0, result.stderr
    return folder


def test_a_folders_manifest_names_its_label_file(own: Path) -> None:
    data = (own / "music" / "labels.csv").read_bytes()

    assert content_of(own / "out")["sources"]["folder"]["inputs"] == [
        {"kind": "labels", "name": "labels.csv", "num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    ]


def test_a_frozen_build_from_another_label_file_says_so_and_what_is_gone(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own / "music", tmp_path / "music")
    labels = tmp_path / "music" / "labels.csv"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    listed = lock_file(own / "out", tmp_path, lambda content: content["tools"].update(numpy="1.26.4"))

    result = build_folder(tmp_path / "music", tmp_path, "out", "--frozen", str(listed))

    assert result.returncode == 0, result.stderr
    told = notes(result.stderr)
    old, new = (
        hashlib.sha256((root / "music" / "labels.csv").read_bytes()).hexdigest()[:12] for root in (own, tmp_path)
    )
    files = f"folder: labels labels.csv (sha256 {old}) in the manifest, labels.csv (sha256 {new}) here"
    assert f"{files}: pass the file of then with --data-from" in told
    numpy = f"numpy 1.26.4 in the manifest, {importlib.metadata.version('numpy')} here"
    assert f"SUBSET, not EXACT, made with others: {files}; {numpy}" in told
    assert "gone: folder/5.wav@0 (not_listed)" in told


def test_an_exact_rebuild_with_other_tools_is_exact_and_needs_no_word(own: Path, tmp_path: Path) -> None:
    listed = lock_file(own / "out", tmp_path, lambda content: content["tools"].update(numpy="1.26.4"))

    result = build_folder(own / "music", tmp_path, "out", "--frozen", str(listed))

    assert json.loads(result.stdout)["frozen"]["level"] == "EXACT"
    assert "numpy" not in result.stderr


def test_other_audio_under_a_name_is_refused_with_the_tools_that_differ(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own / "music", tmp_path / "music")
    wave = signals.noise(1.5, sample_rate=RATE)
    (tmp_path / "music" / "3.wav").write_bytes(signals.encoded(wave, sample_rate=RATE))
    listed = lock_file(own / "out", tmp_path, lambda content: content["tools"].update(soxr="0.3.7"))

    result = build_folder(tmp_path / "music", tmp_path, "out", "--frozen", str(listed))

    assert result.returncode == 3
    assert "first folder/3.wav@0: it may be for soxr 0.3.7 in the manifest, " in result.stderr


def test_a_label_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    for csv in ("../labels.csv", "/etc/passwd", ""):
        with pytest.raises(UsageError, match="give the file's path below the folder"):
            folder_source.Config(csv=csv)


@pytest.mark.slow
def test_a_manifest_of_pairs_names_its_scores_under_one_digest(tmp_path: Path) -> None:
    for number in range(3):
        score = tune(number, programs=(0, 40))
        write_pair(tmp_path / "pairs", f"song{number}", score, sound(score, delay_s=0.1))
    built("--dataset", "musescore", "--data-from", str(tmp_path / "pairs"), *places(tmp_path, "out"))

    files = sorted((tmp_path / "pairs" / "mid").iterdir())
    listed = [[f"mid/{file.name}", hashlib.sha256(file.read_bytes()).hexdigest()] for file in files]
    content = content_of(tmp_path / "out")
    assert content["sources"]["musescore"]["inputs"] == [
        {
            "kind": "scores",
            "name": "MIDI files",
            "num_bytes": sum(file.stat().st_size for file in files),
            "num_files": 3,
            "sha256": digest_of(listed),
        }
    ]
    assert content["tools"]["mido"] == importlib.metadata.version("mido")


# --- tools


def test_tools_are_named_where_they_decide_and_nowhere_else(own: Path, sample_build: Path) -> None:
    always = [*TOOLS, "libsndfile"]

    assert sorted(content_of(own / "out")["tools"]) == sorted(always)
    assert sorted(content_of(sample_build)["tools"]) == sorted([*always, "ffmpeg"])  # some videos are M4A and WebM
    assert tool_versions({"split": {"splitter": "skmultilearn"}}, ()).keys() - always == {"scikit-multilearn"}


@pytest.mark.parametrize(
    ("embedder", "names"),
    [
        ("logmel", ["cleanlab", "scikit-learn"]),
        ("builtin", ["cleanlab", "scikit-learn", "torch"]),
        ("ast", ["cleanlab", "scikit-learn", "torch", "transformers"]),
    ],
)
def test_curation_names_the_libraries_that_judge(embedder: str, names: list[str]) -> None:
    assert judging_tools(EmbedConfig(embedder)) == {name: importlib.metadata.version(name) for name in names}
