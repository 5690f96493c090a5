"""Tampered clip rows: found, and named by file and line."""

from pathlib import Path

import pytest
from damage import sealed_copy

from tutti.datasets.manifest import canonical_json, read_manifest
from tutti.pipelines.verify.check import verify


@pytest.fixture
def version(sample_build: Path, tmp_path: Path) -> Path:
    return sealed_copy(sample_build, tmp_path)


def bucket_with(version: Path, *words: bytes, num_lines: int = 1) -> tuple[Path, int, bytes]:
    """A file of clip rows of at least so many lines, and number and bytes of its last line with all words."""
    for path in sorted(version.glob("manifest/clips/*")):
        lines = path.read_bytes().splitlines(keepends=True)
        fitting = [number for number, line in enumerate(lines, 1) if all(word in line for word in words)]
        if fitting and len(lines) >= num_lines:
            return path, fitting[-1], lines[fitting[-1] - 1]
    raise AssertionError(f"no file of {num_lines} lines has one with {words}")


def replace_line(path: Path, number: int, line: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = line
    path.write_bytes(b"".join(lines))


def problems(version: Path) -> list[tuple[str, int, str]]:
    return [(found.path, found.line, f"{found.kind}: {found.detail}") for found in verify(read_manifest(version))]


KEPT = b'"split":"'
SAME = "corrupt: its sha256 is not the manifest's; the root digest holds"
OTHER = "corrupt: its sha256 is not the manifest's; so the root digest is not the manifest's"


@pytest.mark.parametrize(
    ("old", "new", "field", "whole"),
    [
        (b'"human":"+', b'"human":"-', "labels", OTHER),
        (b'"libsndfile",-', b'"libsndfile",-1', "loudness_lufs", SAME),
        (b'"license":"', b'"license":"x', "license", SAME),
        (b'"split":"train"', b'"split":"test"', "split", OTHER),
    ],
    ids=["label", "loudness", "license", "split"],
)
def test_an_edited_value_is_named_with_its_line(version, old, new, field, whole) -> None:
    path, number, line = bucket_with(version, KEPT, old, num_lines=2)
    replace_line(path, number, line.replace(old, new, 1))

    corrupt, tampered = problems(version)
    assert corrupt == (f"manifest/clips/{path.name}", 0, whole)
    assert tampered[:2] == (f"manifest/clips/{path.name}", number)
    assert tampered[2].endswith(f": {field} of clip row and shard differ")


def test_a_line_that_breaks_the_schema_is_named_with_the_field(version: Path) -> None:
    path, number, line = bucket_with(version, KEPT)
    replace_line(path, number, line.replace(b'"audio":["', b'"audio":["0'))

    (found,) = [text for _, at, text in problems(version) if at == number]
    assert found.startswith("tampered: not a clip row: audio.pcm_sha256: ")


def test_an_edited_digest_of_the_audio_is_named_with_its_line(version: Path) -> None:
    path, number, line = bucket_with(version, KEPT)
    at = line.index(b'"audio":["') + 10
    replace_line(path, number, line[:at] + (b"0" if line[at : at + 1] != b"0" else b"1") + line[at + 1 :])

    assert [(found[1], found[2].partition(": ")[0]) for found in problems(version)] == [
        (0, "corrupt"),
        (number, "tampered"),
    ]
    assert problems(version)[1][2].endswith(": audio_sha256 of clip row and shard differ")


def test_an_edited_confidence_is_named_with_its_line(version: Path) -> None:
    path, number, line = bucket_with(version, KEPT, b'"crowd":"')
    start = line.index(b"=0.") + 3
    replace_line(path, number, line[:start] + b"123" + line[start + 3 :])

    assert problems(version)[1][1] == number
    assert problems(version)[1][2].endswith(": confidence of clip row and shard differ")


def test_an_edit_that_only_the_file_digest_covers_names_the_file(version: Path) -> None:
    path, number, line = bucket_with(version, KEPT, b'"libsndfile"')
    replace_line(path, number, line.replace(b'"libsndfile"', b'"pyav"'))

    assert problems(version) == [(f"manifest/clips/{path.name}", 0, SAME)]


def test_reordered_lines_are_named(version: Path) -> None:
    path, _, _ = bucket_with(version, KEPT, num_lines=2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))

    assert [found[1] for found in problems(version)] == [0, 2]
    assert "out of order, it follows" in problems(version)[1][2]
    assert problems(version)[0][2] == SAME


@pytest.mark.parametrize("count", [1, 2])
def test_windows_line_ends_are_named_line_by_line(version: Path, count: int) -> None:
    path, _, _ = bucket_with(version, KEPT, num_lines=2)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n", count))

    assert [found[1:] for found in problems(version)] == [
        (0, SAME), *((number, "tampered: ends with CR LF") for number in range(1, count + 1))
    ]  # fmt: skip


def test_a_byte_order_mark_is_named(version: Path) -> None:
    path, _, _ = bucket_with(version, KEPT)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert [found[1:] for found in problems(version)] == [(0, SAME), (1, "tampered: begins with a byte order mark")]


def test_spaces_are_named_with_their_line(version: Path) -> None:
    path, number, line = bucket_with(version, KEPT, num_lines=2)
    replace_line(path, number, line.replace(b'":', b'": ', 1))

    assert [found[1] for found in problems(version)] == [0, number]
    assert problems(version)[1][2].endswith(": not canonical JSON")


def test_a_doubled_line_is_named_with_the_line_that_it_repeats(version: Path) -> None:
    path, number, line = bucket_with(version, KEPT)
    replace_line(path, number, line + line)

    assert problems(version)[1][1] == number + 1
    assert problems(version)[1][2].endswith(f": occurs again, first in line {number}")


def test_a_removed_line_names_the_clip_that_lacks_it(version: Path) -> None:
    path, number, line = bucket_with(version, KEPT)
    replace_line(path, number, b"")
    clip_id = line.split(b'"id":"')[1].split(b'"')[0].decode()

    assert problems(version) == [
        (f"manifest/clips/{path.name}", 0, OTHER),
        (f"manifest/clips/{path.name}", 0, f"tampered: {clip_id}: no readable line is its clip row"),
    ]


def test_a_line_in_the_wrong_file_is_named(version: Path) -> None:
    paths = sorted(version.glob("manifest/clips/*"))
    stranger = paths[1].read_bytes().splitlines(keepends=True)[0]
    paths[0].write_bytes(paths[0].read_bytes() + stranger)
    number = len(paths[0].read_bytes().splitlines())

    found = [found for found in problems(version) if found[1] == number]
    assert any(text.endswith(f": belongs into {paths[1].name}") for _, _, text in found)


@pytest.mark.parametrize("cut", [1, 10])
def test_a_cut_file_names_its_last_line(version: Path, cut: int) -> None:
    path, _, _ = bucket_with(version, KEPT)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])

    found = problems(version)
    assert (
        f"manifest/clips/{path.name}", content.count(b"\n"), "tampered: does not end with a line feed: the file was cut"
    ) in found  # fmt: skip
    assert any("not a JSON line" in text for _, _, text in found) == (cut == 10)


def test_a_thousand_bad_lines_are_twenty_findings_and_a_count(version: Path) -> None:
    path = min(version.glob("manifest/clips/*"))
    path.write_bytes(b"{}\n" * 1000)

    found = [found for found in problems(version) if found[1]]
    assert len(found) == 21
    assert found[-1][1:] == (21, "tampered: and 980 more findings in this file")


def test_nothing_is_reformatted(version: Path) -> None:
    path, number, line = bucket_with(version, KEPT)
    replace_line(path, number, line.replace(b'":', b'": ', 1))
    before = path.read_bytes()
    problems(version)

    assert path.read_bytes() == before
    assert canonical_json({}) not in before.decode()
