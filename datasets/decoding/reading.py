"""Reading of a file by the decoder that suits it, or by a second one where the first gives up.

Matroska and MP4 have a clock: PyAV reads them. All else is libsndfile's, but for files that lost something on the way:
PyAV knows where what is left belongs. What libsndfile refuses, or cannot read further, goes to PyAV. Files within a
file (`links.py`) are read one after the other.
"""

from collections.abc import Iterator

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.mending import mended
from tutti.datasets.containers.read import read_claim
from tutti.datasets.decode_error import DecodeError
from tutti.datasets.decoding.block import SOUND, Block, RefusedError, check_block, marked, skipped
from tutti.datasets.decoding.libsndfile import libsndfile_blocks
from tutti.datasets.decoding.links import begin_of, behind_junk, links
from tutti.datasets.decoding.pyav import PyavBlocks

CLOCKLESS = ("mp3", "aac")  # containers whose frames follow each other, whatever was between
MOST_SILENCE_S = 600  # where there is not a tenth as much sound: a clock that nothing confirms
# Their headers say how to decode them, and FFmpeg makes noise of what libsndfile finds contradictory.
LIBSNDFILES = ("wav/adpcm_ima_wav", "wav/adpcm_ms", "w64/adpcm_ima_wav", "w64/adpcm_ms")
LONGEST_FRAME = 4_096  # samples, of ALAC


class Reading:
    """Blocks of a file, each checked, and whether the file is complete once they are read."""

    def __init__(self, data: bytes, name: str) -> None:
        """Hold a file; `name` is what errors call it."""
        self.data, self.name = data, name
        self.complete = True

    def __iter__(self) -> Iterator[Block]:
        """Decode block by block, all of one rate.

        Raises:
            DecodeError: it is no audio, is too long, or holds samples that are not finite.
            MemoryError: memory does not suffice.
        """
        position = rate = quiet = 0
        begin = begin_of(self.data)
        for link in links(self.data[begin:] if begin else self.data):
            self.complete = True  # of a chain the last link counts
            for block in self._link(link):
                rate = rate or block.sample_rate
                if block.sample_rate != rate:
                    change = f"changes from {rate} to {block.sample_rate} Hz after {position / rate:.3f} s"
                    raise RefusedError(f"{self.name}: {change}; convert it to one rate")
                check_block(block, position, self.name)
                quiet += 0 if block.kind == SOUND else block.num_samples
                if quiet > max(MOST_SILENCE_S * rate, 10 * (position + block.num_samples - quiet)):
                    raise RefusedError(f"{self.name}: its clock leaves {quiet / rate:.0f} s without sound")
                yield block
                position += block.num_samples

    def _link(self, data: bytes) -> Iterator[Block]:
        claim = read_claim(data)
        num_samples = rate = 0
        for block in self._decoded(data, claim):
            num_samples, rate = num_samples + block.num_samples, block.sample_rate
            yield block
        if claim is None:
            return
        claimed = _rescaled(claim.num_samples or 0, claim, rate or 1)
        if claim.container == "caf":
            claimed -= LONGEST_FRAME  # of ALAC FFmpeg leaves out the end of the last frame twice
        self.complete = self.complete and not claim.breaks_off and num_samples >= claimed

    def _decoded(self, data: bytes, claim: Claim | None) -> Iterator[Block]:
        demuxer = demuxer_of(data)
        if demuxer is not None or (claim is not None and (claim.losses or claim.gaps or claim.is_joined_late)):
            yield from self._by_pyav(data, claim, demuxer)
            return
        position = 0
        try:
            for block in libsndfile_blocks(mended(data), self.name):
                block = _within(block, position, claim)
                position += block.num_samples
                yield block
            error = None
        except RefusedError:
            raise
        except DecodeError as found:
            error = found
            claim = read_claim(data, checksums=True) or claim  # where it is that it complains of
        if error is None and position >= ((claim and claim.num_samples) or 1):
            return
        yield from self._second_opinion(data, claim, position, error)

    def _second_opinion(
        self, data: bytes, claim: Claim | None, position: int, error: DecodeError | None
    ) -> Iterator[Block]:
        """Read on where libsndfile gave up, or ended before the claim: a file behind the first, a length left at 0."""
        try:
            for block in skipped(self._by_pyav(data, claim, None), position):
                if position == 0 and block.codec in LIBSNDFILES:
                    raise RefusedError(str(error or f"{self.name}: its header contradicts itself"))
                yield block
        except RefusedError:
            raise
        except DecodeError:
            begin = behind_junk(data)
            if begin and position == 0:
                yield from self._link(data[begin:])
                return
            if error is not None and position == 0:
                raise error from None
            self.complete = self.complete and error is None

    def _by_pyav(self, data: bytes, claim: Claim | None, demuxer: str | None) -> Iterator[Block]:
        blocks = PyavBlocks(data, self.name, demuxer)
        decoded = iter(blocks)
        if claim is not None and claim.losses:
            first = next(decoded, None)
            if first is not None:
                rate = first.sample_rate
                losses = tuple((_rescaled(a, claim, rate), _rescaled(b, claim, rate)) for a, b in claim.losses)
                decoded = marked(
                    _chained(first, decoded),
                    losses,
                    inserted=claim.container in CLOCKLESS,
                    only_silence=claim.is_lost_sound_silent,
                )
        yield from decoded
        self.complete = self.complete and blocks.complete


def _within(block: Block, position: int, claim: Claim | None) -> Block:
    """Drop what libsndfile reads behind the end of a W64: a tag."""
    if claim is None or claim.container != "w64" or claim.num_samples is None or claim.breaks_off:
        return block
    left = max(claim.num_samples - position, 0)
    return block if block.num_samples <= left else block.cut(0, left)


def demuxer_of(data: bytes) -> str | None:
    """Detect a container whose frames have timestamps; None: it has none, or libsndfile minds them."""
    if data[:4] == b"\x1a\x45\xdf\xa3":  # EBML: Matroska, WebM
        return "matroska"
    if data[4:8] == b"ftyp":  # ISO base media: MP4, M4A
        return "mp4"
    if data[:4] == b"wvpk":  # WavPack: by its content alone FFmpeg does not know it where a tag follows
        return "wv"
    return None


def _rescaled(num_samples: int, claim: Claim, rate: int) -> int:
    return num_samples if claim.sample_rate in (None, rate, 0) else num_samples * rate // claim.sample_rate


def _chained(first: Block, rest: Iterator[Block]) -> Iterator[Block]:
    yield first
    yield from rest
