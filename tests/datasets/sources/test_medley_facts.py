"""Real metadata and annotations of MedleyDB and Mixing Secrets: all parse, and count what the fact tables count."""

import gzip
import itertools
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tutti.datasets.songs.activations import HOP_S, read_activations, read_source_ids
from tutti.datasets.songs.artists import artist_groups, artist_of
from tutti.datasets.songs.medley_format import Metadata, parse_metadata
from tutti.datasets.songs.medleydb_tracks import V1, V2
from tutti.datasets.sources import medleydb, mixing_secrets

Songs = dict[str, Metadata]


@pytest.fixture(scope="module")
def labels(shared: Path) -> Path:
    return shared / "multitrack" / "labels"


def read_all(path: Path) -> Songs:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("_METADATA.yaml")]
        keys = [name.rpartition("/")[2].removesuffix("_METADATA.yaml") for name in names]
        return {key: parse_metadata(archive.read(name), name) for key, name in zip(keys, names, strict=True)}


@pytest.fixture(scope="module")
def medley(labels: Path) -> Songs:
    return read_all(labels / "medleydb" / "metadata_all_330.zip")


@pytest.fixture(scope="module", params=["metadata_258_gururani.zip", "medley_format_258_gururani.zip"])
def secrets(labels: Path, request: pytest.FixtureRequest) -> Songs:
    return read_all(labels / "mixing_secrets" / request.param)


def instruments_of(songs: Songs) -> Counter[str]:
    return Counter(name for song in songs.values() for stem in song.stems for name in stem.instruments)


def num_stems(songs: Songs) -> int:
    return sum(len(song.stems) for song in songs.values())


def test_lists_of_songs_are_upstreams(labels):
    for ids, name in ((V1, "v1"), (V2, "v2")):
        assert ids == set((labels / "medleydb" / f"tracklist_{name}.txt").read_text().split())


def test_all_metadata_of_medleydb_parse(medley):
    first, second = ({key: medley[key] for key in ids} for ids in (V1, V2))

    assert (len(medley), len(first), len(second)) == (330, 122, 74)
    assert (num_stems(first), num_stems(second)) == (856, 428)
    assert (len(instruments_of(first)), len(instruments_of(second))) == (82, 47)
    assert Counter(song.has_bleed for song in first.values()) == {True: 28, False: 94}
    assert Counter(song.has_bleed for song in second.values()) == {True: 52, False: 22}
    assert (len({song.artist for song in first.values()}), len({song.artist for song in second.values()})) == (47, 43)
    assert sum(not song.album for song in first.values()) == 82
    assert sum(not song.album for song in second.values()) == 6  # two empty, four a blank
    assert not any(song.is_mixing_secrets for song in medley.values())
    lists = [key for key, song in medley.items() for stem in song.stems if len(stem.instruments) > 1]
    assert len(lists) == 106
    assert not {*lists} & (V1 | V2)


def test_every_instrument_of_medleydb_is_in_its_table(medley):
    raw = [names for song in medley.values() for stem in song.stems for names in stem.raw.values()]
    names = instruments_of(medley) + Counter(name for listed in raw for name in listed)

    assert [name for name in names if medleydb.sound_of(name) is None] == []
    assert len(medleydb.SOUNDS.keys() - names.keys()) == 22
    assert instruments_of({key: medley[key] for key in V2})["Main System"] == 44


def test_errata_speak_of_songs_and_stems_that_there_are(medley):
    for key, stem in medleydb.BLEEDING:
        assert stem in {one.key for one in medley[key].stems}


def test_artists_of_medleydb_are_grouped(medley):
    groups = artist_groups((key, artist_of(key, medley[key].artist, medley[key].title)) for key in sorted(V1 | V2))
    sizes = Counter(groups.values())

    assert sizes.most_common(1) == [("musicdelta", 35)]
    assert len({groups[key] for key in V1 | V2 if medley[key].artist == "NYU"}) == 1
    assert {groups[key] for key in groups if key.startswith("HopsNVinyl_")} == {"hopsnvinyl"}
    assert {groups[key] for key in groups if key.startswith("LizNelson_")} == {"liznelson"}
    assert len({groups[key] for key in groups if key.startswith("BrandonWebster_")}) == 1


def test_both_copies_of_the_metadata_of_mixing_secrets_parse(secrets):
    assert (len(secrets), num_stems(secrets)) == (258, 4529)
    assert sum(len(stem.raw) for song in secrets.values() for stem in song.stems) <= 6720  # names may repeat
    assert all(song.is_mixing_secrets for song in secrets.values())
    assert Counter(song.has_bleed for song in secrets.values()) == {True: 38, False: 220}
    assert len({song.artist for song in secrets.values()}) == 167
    assert sum(key.startswith("MR1") for key in secrets) == 31 - sum(key.startswith("MR0") for key in secrets)
    assert {(song.album, song.origin) for song in secrets.values()} == {("", "Mixing Secrets")}
    assert sum(len(stem.instruments) > 1 for song in secrets.values() for stem in song.stems) == 14
    ends = ("_STEM_drums.wav", "_STEM_loops.wav", "_STEM_synth.wav", "_STEM_sfx.wav")
    assert sum(stem.file.endswith(ends) for song in secrets.values() for stem in song.stems) == 420


def test_most_stems_of_mixing_secrets_have_an_instrument_that_a_rule_knows(secrets):
    named = instruments_of(secrets)
    known = sum(count for name, count in named.items() if mixing_secrets.CORPUS.sound_of(name) is not None)

    assert known / named.total() > 0.93  # the rest: rooms, main systems, effects, samples


def test_the_corpora_have_no_artist_in_common(medley, secrets):
    songs = [(key, artist_of(key, song.artist, song.title)) for part in (medley, secrets) for key, song in part.items()]
    groups = artist_groups(songs)

    assert not {groups[key] for key in V1 | V2} & {groups[key] for key in secrets}


def test_real_activations_parse_with_a_span_for_each_stem(labels, medley):
    paths = sorted((labels / "medleydb" / "activation_confidence").glob("*.lab.gz"))
    assert len(paths) == 6
    for path in paths:
        spans = read_activations(gzip.decompress(path.read_bytes()), path.name)
        song = medley[path.name.removesuffix("_ACTIVATION_CONF.lab.gz")]
        assert list(spans) == [stem.key for stem in song.stems]
        for of_stem in spans.values():
            assert of_stem
            assert all(end_s - start_s > 0.9 * HOP_S for start_s, end_s in of_stem)
            assert all(before[1] < after[0] for before, after in itertools.pairwise(of_stem))


def test_real_source_ids_parse_with_names_of_the_table(labels):
    with zipfile.ZipFile(labels / "medleydb" / "source_id_122.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith("_SOURCEID.lab")]
        read = [read_source_ids(archive.read(name), name) for name in names]

    assert len(read) == 122
    assert {name for spans in read for name in spans if medleydb.sound_of(name) is None} == set()
