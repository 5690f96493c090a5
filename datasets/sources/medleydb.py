"""MedleyDB: songs with their stems, which Zenodo gives on request.

    my-medleydb/Audio/<id>/<id>_MIX.wav                        or V1/<id>/, V2/<id>/, at any depth
    my-medleydb/Audio/<id>/<id>_STEMS/<id>_STEM_01.wav
    my-medleydb/Audio/<id>/<id>_METADATA.yaml                  or Metadata/<id>_METADATA.yaml: the nearest counts
    my-medleydb/Annotations/**/<id>_ACTIVATION_CONF.lab        when each stem sounds; SOURCEID.lab; else it is measured

Every song whose audio is there is read; the track lists only name its partition. A stem is labelled with its
instrument, and where a song has no bleed, with the absence of all others. `Main System` is a pair of microphones
before the whole ensemble, `fx/processed sound` may be of anything: no labels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tutti.datasets.hierarchy import Sound, sounds_of
from tutti.datasets.record import Recording
from tutti.datasets.songs import rows as song_rows
from tutti.datasets.songs.medleydb_tracks import V1, V2
from tutti.datasets.songs.rows import Corpus
from tutti.datasets.source import Card, Input, LocalFile, RemoteFile
from tutti.datasets.taxonomy import INSTRUMENTS as TAXONOMY

CARD = Card(
    title="MedleyDB (you bring the files)",
    homepage="https://medleydb.weebly.com/",
    license="CC-BY-NC-SA-4.0",
    license_url="https://creativecommons.org/licenses/by-nc-sa/4.0/",
    license_note="Not for commercial use; Zenodo gives the audio to researchers who ask, and nobody may pass it on.",
    citation="Bittner et al.: MedleyDB, ISMIR 2014; MedleyDB 2.0, ISMIR 2016 (late-breaking)",
    num_clips=0,
    size_bytes=0,
)

REMOTES: tuple[RemoteFile, ...] = ()
INSTRUMENTS = tuple(TAXONOMY)
PARTITIONS = ("v1", "v2", "other")
TRACKS = True


@dataclass(frozen=True)
class Config:
    """Folders of the songs."""

    roots: tuple[str, ...] = field(default=(), metadata={"local": True})  # never part of a digest or a manifest


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read one recording per stem and per mix.

    Raises:
        UsageError: no folder is given, or none holds a song of MedleyDB.
    """
    del files  # nothing was downloaded
    yield from song_rows.recordings(CORPUS, config.roots)


def inputs(config: Config) -> tuple[Input, ...]:
    """Hash the metadata of the songs, and count those without audio.

    Raises:
        UsageError: no folder is given, or none holds a song of MedleyDB.
    """
    return song_rows.inputs(CORPUS, config.roots)


def partition_of(key: str) -> str:
    """Name the release that a song came with."""
    return "v1" if key in V1 else "v2" if key in V2 else "other"


def sound_of(name: str) -> Sound | None:
    """Find the sound of an instrument's name; None: the taxonomy of MedleyDB has no such name."""
    return _SOUNDS.get(name.casefold())


# All names of MedleyDB's taxonomy.yaml, and `woodwind section`, which metadata have too. The mask of a family that is
# present hides classes of it: in a drum set there are cymbals, in a section any of its kind may play.
SOUNDS = sounds_of("""
    bowed_string: erhu, viola, viola section, dilruba
    bowed_string/violin = violin: violin, violin section
    bowed_string = cello: cello, cello section
    bowed_string = bass: double bass
    bowed_string ~ violin, bowed_string: string section
    plucked_string/acoustic_guitar = acoustic_guitar: acoustic guitar
    plucked_string/electric_guitar = electric_guitar: clean electric guitar, distorted electric guitar
    plucked_string = guitar ~ electric_guitar, acoustic_guitar: slide guitar, lap steel guitar
    plucked_string/electric_bass = bass: electric bass
    plucked_string = banjo: banjo
    plucked_string = mandolin: mandolin
    plucked_string = ukulele: ukulele
    plucked_string: guzheng, harp, liuqin, oud, zhongruan, sitar, dulcimer, yangqin
    key/piano = piano: piano, tack piano
    key ~ piano: electric piano
    key = organ: harmonium, pipe organ, electronic organ
    key = accordion: concertina, accordion, bandoneon
    key: harpsichord, melodica
    woodwind = flute: flute, flute section
    woodwind = saxophone: alto saxophone, baritone saxophone, tenor saxophone, soprano saxophone
    woodwind = clarinet: bass clarinet, clarinet, clarinet section
    woodwind: dizi, piccolo, bamboo flute, panpipes, recorder, oboe, english horn, bassoon, bagpipe, harmonica, whistle
    woodwind ~ woodwind: woodwind section
    brass = trumpet: trumpet, cornet, trumpet section
    brass = trombone: trombone, trombone section
    brass: french horn, euphonium, tuba, french horn section
    brass ~ brass: brass section
    brass ~ woodwind, brass: horn section
    voice/singer = voice: male singer, female singer, vocalists, choir
    voice = voice ~ singer: male rapper, female rapper, male screamer, female screamer
    voice ~ voice: male speaker, female speaker
    voice ~ voice, percussion, drums, singer: beatboxing
    ~ voice, singer: crowd
    percussion/drums = drums ~ percussion: drum set
    percussion/drums = drums: toms, snare drum, kick drum
    percussion/drums = drums ~ synth, percussion: drum machine
    percussion/drums = cymbals ~ drums: high hat
    percussion = cymbals ~ drums: cymbal
    percussion ~ drums: bass drum
    percussion = mallet_percussion: xylophone, vibraphone, marimba, glockenspiel
    percussion ~ percussion: auxiliary percussion
    percussion: triangle, sleigh bells, cowbell, cabasa, gong, guiro, gu, chimes, castanet, claps, rattle, shaker
    percussion: maracas, snaps, timpani, bongo, conga, tambourine, darbuka, doumbek, tabla
    synth = synthesizer: synthesizer
    synth ~ synth: theremin
    ~ all: fx/processed sound, scratches, sampler, Main System, Unlabeled
""")
_SOUNDS = {name.casefold(): sound for name, sound in SOUNDS.items()}

# Bleed that the flag of a song may deny: ERRATA.md of the metadata (1: "contains bleed"), and its issue 76.
# Where a raw track has it, so has its stem.
BLEEDING = frozenset(
    {
        ("BrandonWebster_DontHearAThing", "S02"),
        ("ClaraBerryAndWooldog_Boys", "S01"),
        ("ClaraBerryAndWooldog_Boys", "S05"),
        ("Creepoid_OldTree", "S02"),
        ("LizNelson_ImComingHome", "S02"),
        ("Lushlife_ToynbeeSuite", "S12"),
        ("TablaBreakbeatScience_WhoIsIt", "S03"),
        ("TablaBreakbeatScience_WhoIsIt", "S04"),
        ("TheScarletBrand_LesFleursDuMal", "S08"),
    }
)

CORPUS = Corpus("medleydb", "MedleyDB", CARD.license, sound_of, partition_of, BLEEDING)
