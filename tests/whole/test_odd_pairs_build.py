"""Pairs whose MIDI files are odd become rows like others, and their rows say how much was put right."""

from conftest import built
from midi_files import sound, tune, write_pair

from tutti.datasets.manifest import read_manifest

HEAD = 14  # bytes of the header, and of the chunk of the tempo's track that follows it
TEXT = "谨以此曲献给我的故乡。".encode() * 40


def with_event(data: bytes, event: bytes) -> bytes:
    """The file with an event first in its first track."""
    length = int.from_bytes(data[HEAD + 4 : HEAD + 8], "big") + len(event)
    return data[: HEAD + 4] + length.to_bytes(4, "big") + event + data[HEAD + 8 :]


def test_pairs_with_odd_midi_files_are_kept_and_their_repairs_are_counted(tmp_path):
    root = tmp_path / "pairs"
    number = bytes([0x80 | len(TEXT) >> 7, len(TEXT) & 0x7F])
    faults = {
        "plain": lambda data: data,
        "key": lambda data: with_event(data, b"\0\xff\x59\2\xf8\0"),
        "text": lambda data: with_event(data, b"\0\xff\1" + number + TEXT),
        "vendor": lambda data: data[:HEAD] + b"XFIH\0\0\0\4abcd" + data[HEAD:],
        "counts": lambda data: data[:10] + b"\0\x09" + data[12:],
        "rmid": lambda data: b"RIFF\0\0\0\0RMIDdata" + len(data).to_bytes(4, "little") + data,
    }
    for seed, (key, fault) in enumerate(faults.items()):
        write_pair(root, key, tune(seed, 6.0), sound(tune(seed, 6.0), delay_s=0.1))
        file = root / "mid" / f"{key}.mid"
        file.write_bytes(fault(file.read_bytes()))
    for name in ("mid/._plain.mid", "mp3/.DS_Store"):
        (root / name).write_bytes(b"\0\5\x16\7")

    built(
        "--dataset", "musescore", "--data-from", str(root), "--embedder", "none", "--output", str(tmp_path / "out"),
        "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip

    rows = {row["recording"]: row for row in read_manifest(tmp_path / "out").clip_rows()}
    assert {key: (row["status"], row.get("score_repairs")) for key, row in rows.items()} == {
        "plain": ("kept", None), "key": ("kept", 1), "text": ("kept", None), "vendor": ("kept", 1),
        "counts": ("kept", 1), "rmid": ("kept", None),
    }  # fmt: skip
