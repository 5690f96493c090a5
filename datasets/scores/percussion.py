"""Drum patterns, on the keys of General MIDI's percussion map."""

KICK, RIM, SNARE, CLOSED, PEDAL, OPEN, CRASH, RIDE = 36, 37, 38, 42, 44, 46, 49, 51
LOW_TOM, MIDDLE_TOM, HIGH_TOM, TAMBOURINE = 45, 47, 50, 54

Hit = tuple[float, int, float]  # beat of the bar, key, loudness 0 .. 1


def drum_bar(style: int, beats: int, *, is_first: bool, is_last: bool) -> list[Hit]:
    """Write one bar of a style (0 rock, 1 ballad with rim and tambourine, 2 swing, 3 straight four)."""
    hits = _PATTERNS[style](beats)
    if is_first:
        hits.append((0.0, CRASH, 0.8))
    if is_last:  # a fill over the last beat
        hits = [hit for hit in hits if hit[0] < beats - 1]
        hits += [(beats - 1 + n / 4, key, 0.8) for n, key in enumerate((SNARE, HIGH_TOM, MIDDLE_TOM, LOW_TOM))]
    return sorted(hits)


def _rock(beats: int) -> list[Hit]:
    hats = [(n / 2, CLOSED, 0.7 if n % 2 == 0 else 0.5) for n in range(2 * beats)]
    snares = [(float(beat), SNARE, 0.9) for beat in range(1, beats, 2 if beats == 4 else 1)]
    return [*hats, (0.0, KICK, 0.9), (1.5, KICK, 0.7), *snares]


def _ballad(beats: int) -> list[Hit]:
    shakes = [(n / 2, TAMBOURINE, 0.5) for n in range(2 * beats)]
    return [*shakes, (0.0, KICK, 0.7), (float(beats - 2), RIM, 0.8)]


def _swing(beats: int) -> list[Hit]:
    rides = [(float(beat), RIDE, 0.7) for beat in range(beats)]
    skips = [(beat + 2 / 3, RIDE, 0.5) for beat in range(1, beats, 2)]
    return [*rides, *skips, *((float(beat), PEDAL, 0.6) for beat in range(1, beats, 2)), (0.0, KICK, 0.5)]


def _four(beats: int) -> list[Hit]:
    kicks = [(float(beat), KICK, 0.9) for beat in range(beats)]
    return [*kicks, *((beat + 0.5, OPEN, 0.7) for beat in range(beats)), (1.0, SNARE, 0.8)]


_PATTERNS = (_rock, _ballad, _swing, _four)
