"""The claim of a container: what its own headers, pages and frames say of the samples that it holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """Facts that a container tells of itself, each only where it is plausible.

    Samples are counted by the clock of the container: those of losses and gaps count.

    A file is complete where it does not break off and a decoder gives `num_samples` or more, counted at `sample_rate`.
    """

    container: str  # "wav", "aiff", "ogg", ...: the family, whatever the codec
    num_samples: int | None  # per channel in all streams, at least; None: it says none, or none that is plausible
    breaks_off: bool  # its bytes end before its own end mark or declared length
    losses: tuple[tuple[int, int], ...] = ()  # [first, last) samples within that are lost: told by positions, checksums
    sample_rate: int | None = None  # of `num_samples` and `losses`: not always the decoder's (HE-AAC); None with none
    gaps: tuple[tuple[int, int], ...] = ()  # [first, last) samples within where the clock goes on without sound (Ogg)
    is_joined_late: bool = False  # an Opus stream whose positions begin above 0: a live one that was recorded
    is_lost_sound_silent: bool = False  # of `losses` only what a decoder finds no sound in is lost, the rest is well
