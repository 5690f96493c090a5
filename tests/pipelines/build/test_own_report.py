"""What is said of the user's own audio of videos: each file whole, cut or dismissed, with the reason."""

from pathlib import Path

import signals

from tutti.pipelines.acquisition.origins import Origins
from tutti.pipelines.acquisition.own_audio import Placement
from tutti.pipelines.acquisition.own_index import index_of
from tutti.pipelines.build.own_report import lines_of, own_files, wanted_clips
from tutti.pipelines.cache.store import Cache

WHOLE, CUT, DOUBTFUL, BROKEN = "wholevideo0", "readycut000", "doubtful000", "broken00000"
ROWS = [
    {"source": "audioset", "recording": video, "start_s": 1.0, "end_s": 2.0, "status": "kept"}
    for video in (WHOLE, CUT, DOUBTFUL, BROKEN, "elsewhere00")
]


def put(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def wav(duration_s):
    return signals.encoded(signals.sine(duration_s, sample_rate=8_000), sample_rate=8_000)


def test_every_file_of_a_clips_video_is_named_with_what_it_was_taken_for_and_why(tmp_path):
    root = tmp_path / "mine"
    put(root / f"{WHOLE}.wav", wav(5.0))
    put(root / "later" / f"{WHOLE}.wav", wav(5.0))
    put(root / f"Y{CUT}.wav", wav(1.0))
    put(root / f"A title [{DOUBTFUL}].wav", wav(2.0))
    put(root / f"{BROKEN}.wav", b"no audio")
    put(root / "A title without an id.wav", wav(1.0))
    put(root / "zzzzzzzzzzz.wav", wav(1.0))  # of no clip
    origins, cache = Origins(own_roots=(str(root),)), Cache(tmp_path / "cache")

    found = own_files(wanted_clips(ROWS), origins, cache)
    lines = lines_of(found, index_of(origins.own_roots).strays)

    assert {path.removeprefix(f"{root}/"): placed.kind for path, placed in found.items()} == {
        f"{WHOLE}.wav": "whole", f"later/{WHOLE}.wav": "dismissed", f"Y{CUT}.wav": "cut",
        f"A title [{DOUBTFUL}].wav": "dismissed" , f"{BROKEN}.wav": "dismissed",
    }  # fmt: skip
    assert lines[0] == "your own audio of videos: 1 whole, 1 cut, 3 dismissed"
    assert f"  {root}/{WHOLE}.wav: whole: lasts 5.000 s, far longer than its clip" in lines
    assert f"  {root}/later/{WHOLE}.wav: dismissed: {WHOLE}.wav is taken" in lines
    assert f"  {root}/Y{CUT}.wav: cut: lasts 1.000 s, as long as its clip" in lines
    assert f"  {root}/A title [{DOUBTFUL}].wav: dismissed: lasts 2.000 s; the whole video, or the clip" in "\n".join(
        lines
    )
    assert lines[-1] == "  dismissed, for their names hold no video's id: A title without an id.wav"


def test_clips_that_were_not_selected_and_those_of_other_sources_ask_for_no_file():
    rows = [{**ROWS[0], "stage": "select"}, {**ROWS[0], "source": "irmas"}, {**ROWS[0], "stage": "fetch"}]

    assert wanted_clips(rows) == [(WHOLE, 1.0, 2.0)]


def test_of_folders_without_audio_of_videos_there_is_nothing_to_say():
    assert lines_of({}, ()) == []
    assert own_files([(WHOLE, 1.0, 2.0)], Origins(), Cache(Path("unused"))) == {}


def test_only_the_first_files_are_named():
    placed = {f"{number:02}.wav": Placement("dismissed", "lasts 2.000 s") for number in range(12)}

    lines = lines_of(placed, [f"stray {number:02}.wav" for number in range(12)])

    assert len(lines) == 1 + 10 + 1 + 1
    assert lines[11] == "  and 2 more that are dismissed"
    assert lines[12].endswith("stray 09.wav and 2 more")
