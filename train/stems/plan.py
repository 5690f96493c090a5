"""Mixtures as numbers: which stems, from which sample on, and the labels that follow. No audio.

    sampler = Sampler(stems, config, num_samples, sample_rate, seed)
    mix = sampler.draw(epoch, index)

A mixture is a function of (seed, epoch, index) alone. In the order of the musical-mixtures paper: a corpus, each as
often; musical or not; the number of stems; then songs, stems and chunks. A musical mixture takes different stems of one
song, all from the same sample on; any other takes each stem from another song of the corpus. There are never more stems
than the corpus has songs for, or its largest song stems.

A class is present where a stem that has it sounds in its chunk; else unknown where any stem of the mixture leaves it
unknown (other instruments leak in, or it is not known what plays); else absent.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutti.augment.transforms.time_stretch import TimeStretch
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.train.stems.config import MixingConfig
from tutti.train.stems.songs import Indices, Stems

_STREAM = 4  # random stream of numpy; 0 to 3 are those of train/reading, which draw whole epochs


@dataclass(frozen=True)
class Mix:
    """One mixture."""

    corpus: int  # of Stems.corpora
    musical: bool
    stems: Indices  # (N,): of Stems
    first: Indices  # (N,): first sample of each chunk in its stem; beyond its end is silence
    presence: NDArray[np.int8]  # (C,)
    num_redraws: int  # of chunks in which nothing sounded
    silent: bool  # nothing sounds in it, after all redraws


class Sampler:
    """Draws mixtures of a split.

    Args:
        stems: of the split.
        config: shares and numbers.
        num_samples: of a chunk.
        sample_rate: of the stems, Hz.
        seed: of the run.
    """

    def __init__(self, stems: Stems, config: MixingConfig, num_samples: int, sample_rate: int, seed: int) -> None:
        self.stems, self.config, self.num_samples, self.seed = stems, config, num_samples, seed
        self._min_sounding = max(1, round(config.min_sounding_s * sample_rate))
        # Slowed down, a chunk ends early: what sounds only after that may not be heard.
        slowest = TimeStretch().min_rate if config.p_time_stretch else 1.0
        self._num_heard = max(1, int(num_samples * slowest))
        counts = np.array([len(part) for part in stems.stems_of_song])
        self._most = [int(counts[songs].max()) for songs in stems.songs_of_corpus]
        self._songs_with = [
            [songs[counts[songs] >= number] for number in range(self._most[corpus] + 1)]
            for corpus, songs in enumerate(stems.songs_of_corpus)
        ]

    def draw(self, epoch: int, index: int) -> Mix:
        """Draw mixture `index` of an epoch."""
        generator = np.random.default_rng([self.seed, epoch, index, _STREAM])
        config, corpus = self.config, _below(len(self.stems.corpora), generator)
        musical = generator.random() < config.p_musical
        single = generator.random() < config.p_single or config.max_sources == 1
        number = 1 if single else 2 + _below(config.max_sources - 1, generator)
        return self._musical(generator, corpus, number) if musical else self._other(generator, corpus, number)

    def _musical(self, generator: np.random.Generator, corpus: int, number: int) -> Mix:
        """Take different stems of one song that has so many, at one time."""
        number = min(number, self._most[corpus])
        songs = self._songs_with[corpus][number]
        members = self.stems.stems_of_song[int(songs[_below(len(songs), generator)])]
        chosen = members[_different(number, len(members), generator)]
        first, heard, num_redraws = self._chunk(generator, chosen.tolist(), self.num_samples)
        sounds = [count >= self._min_sounding for count in heard]
        presence = self._presence(chosen, sounds, [count > 0 for count in heard])
        return Mix(corpus, True, chosen, np.full(number, first, np.int64), presence, num_redraws, not any(sounds))

    def _other(self, generator: np.random.Generator, corpus: int, number: int) -> Mix:
        """Take each stem from another song, each at a time of its own."""
        songs, members = self.stems.songs_of_corpus[corpus], self.stems.stems_of_song
        chosen, first, sounds, some, total = [], [], [], [], 0
        for place in _different(min(number, len(songs)), len(songs), generator):
            stems = members[int(songs[place])]
            stem = int(stems[_below(len(stems), generator)])
            begin, heard, num_redraws = self._chunk(generator, [stem], self._num_heard)
            chosen.append(stem)
            first.append(begin)
            sounds.append(heard[0] >= self._min_sounding)
            some.append(self.stems.sounding(stem, begin, begin + self.num_samples) > 0)
            total += num_redraws
        stems_N, first_N = np.array(chosen, np.int64), np.array(first, np.int64)
        return Mix(corpus, False, stems_N, first_N, self._presence(stems_N, sounds, some), total, not any(sounds))

    def _chunk(self, generator: np.random.Generator, stems: list[int], num_samples: int) -> tuple[int, list[int], int]:
        """Draw where chunks of stems begin, until one of them sounds: first sample, how long each sounds, redraws."""
        room = max(max(int(self.stems.sizes[stem]) for stem in stems) - self.num_samples, 0) + 1
        for num_redraws in itertools.count():
            first = _below(room, generator)
            heard = [self.stems.sounding(stem, first, first + num_samples) for stem in stems]
            if max(heard) >= self._min_sounding or num_redraws == self.config.max_redraws:
                return first, heard, num_redraws
        raise AssertionError("redraws are counted")  # pragma: no cover

    def _presence(self, chosen: Indices, sounds: list[bool], some: list[bool]) -> NDArray[np.int8]:
        """Label a mixture (C,) by which of its stems sound, and which do at all."""
        presence_NC = self.stems.presence[chosen]
        sounds_N1 = np.array(sounds)[:, None]
        hardly_N1 = np.array(some)[:, None] & ~sounds_N1
        present_C = ((presence_NC == PRESENT) & sounds_N1).any(axis=0)
        unknown_C = ((presence_NC == UNKNOWN) | ((presence_NC == PRESENT) & hardly_N1)).any(axis=0)
        return np.where(present_C, PRESENT, np.where(unknown_C, UNKNOWN, ABSENT)).astype(np.int8)


def _below(number: int, generator: np.random.Generator) -> int:
    """Draw a whole number from 0 on, below `number`."""
    return int(generator.random() * number)


def _different(count: int, number: int, generator: np.random.Generator) -> list[int]:
    """Draw different whole numbers below `number`, in random order: the first steps of a shuffle (Fisher, Yates)."""
    moved: dict[int, int] = {}
    drawn = []
    for place in range(count):
        other = place + _below(number - place, generator)
        drawn.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return drawn
