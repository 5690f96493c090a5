"""FluidSynth as a function: a performance and a soundfont in, float32 waveforms out, the same bits every time.

    rendering = synthesize(performance, soundfont, sample_rate=44_100, stems=True)

Equal arguments give equal bytes in any process, whatever was rendered before: every call has a synthesizer of its
own (a few milliseconds; the samples are shared), output is float, so that no dither is added, chorus is off, and the
reverberation is the performance's. The library's version is part of what decides the bytes: `version()`.

Notes begin and end on multiples of 64 samples, FluidSynth's block (1.5 ms at 44.1 kHz). A part is one program; notes
of one part and pitch that overlap sound on channels of their own, so that each ends when it should.

Shapes: P parts, T samples; waveforms are stereo, (2, T).
"""

import contextlib
import ctypes
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.errors import UsageError
from tutti.datasets.record import DRUMS, Decibels, Note, Seconds
from tutti.datasets.scores.general_midi import PROGRAM_NAMES
from tutti.datasets.scores.soundfonts import INSTALL, Soundfont
from tutti.datasets.scores.variation import Performance

Waveform = NDArray[np.float32]

CODE_VERSION = 1  # raise it when equal arguments give other samples

BLOCK_SAMPLES = 64  # FluidSynth's FLUID_BUFSIZE: events take effect at its multiples
TAIL_S: Seconds = 2.0  # after the last note's end: what rings on, and the room
POLYPHONY = 1_024  # voices; FluidR3's pianos take 2 a note, and a stolen voice would be a wrong label
MASTER_GAIN = 0.5  # a full-velocity chord of four stays below full scale at neutral volume (FluidSynth's own: 0.2)
NEUTRAL_VOLUME = 80  # of controller 7 at a gain of 0 dB; leaves 8 dB up to 127
VOLUME = 7  # MIDI controller: channel volume
DRUM_BANK = 128  # of percussion in a soundfont
MAX_STEMS_BYTES = 4 << 30  # of all stems of a performance

_OK = 0
_CHANNELS_STEP = 16  # FluidSynth has channels by the sixteen


@dataclass(frozen=True, eq=False)
class Rendering:
    """The samples of a performance. The mix is the sum of the stems."""

    sample_rate: int  # Hz
    programs: tuple[int, ...]  # of the parts, in ascending order
    mix: Waveform  # (2, T); may pass full scale
    stems: NDArray[np.float32] | None = None  # (P, 2, T)
    silent: tuple[Note, ...] = ()  # notes that the soundfont does not play: beyond its instrument's keys


@dataclass(frozen=True)
class _Event:
    """A key that goes down (velocity > 0) or up."""

    sample: int  # a multiple of BLOCK_SAMPLES
    channel: int
    pitch: int
    velocity: int
    note: int  # its number


def version() -> str:
    """Read the version of the FluidSynth library.

    Raises:
        UsageError: it is not installed.
    """
    library, major, minor, micro = _library(), ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library._fl.fluid_version(ctypes.byref(major), ctypes.byref(minor), ctypes.byref(micro))
    return f"{major.value}.{minor.value}.{micro.value}"


def synthesize(
    performance: Performance,
    soundfont: Soundfont,
    *,
    sample_rate: int = 44_100,
    stems: bool = False,
    tail_s: Seconds = TAIL_S,
) -> Rendering:
    """Render a performance, with the room's reverberation in every stem.

    Args:
        performance: score, gains, drum kit, room.
        soundfont: General MIDI; kept in memory until the process ends.
        sample_rate: Hz, 8,000 to 96,000.
        stems: also one waveform per part.
        tail_s: rendered after the score's end.

    Raises:
        UsageError: FluidSynth is missing, the soundfont cannot be loaded or lacks a program, or the stems would not
            fit into memory.
    """
    notes = performance.score.notes
    programs = tuple(sorted({note.program for note in notes}))
    num_samples = round((performance.score.end_s + tail_s) * sample_rate)
    if stems and len(programs) * num_samples * 8 > MAX_STEMS_BYTES:
        length = f"{num_samples / sample_rate:.0f} s"
        raise UsageError(f"{len(programs)} stems of {length} take too much memory; cut the score")
    part_of = {program: index for index, program in enumerate(programs)}
    layers = _layers(notes)
    num_groups = max(1, len(programs)) if stems else 1
    num_layers = max(layers, default=0) + 1
    # FluidSynth sends channel c to output c modulo groups, so the layers of a part share its output.
    channels = [part_of[note.program] + len(programs) * layer for note, layer in zip(notes, layers, strict=True)]
    setup = {
        "synth.audio-channels": num_groups,
        "synth.audio-groups": num_groups,
        "synth.effects-groups": num_groups,
        "synth.midi-channels": -(-max(1, len(programs) * num_layers) // _CHANNELS_STEP) * _CHANNELS_STEP,
    }
    output = np.zeros((num_groups, 2, _whole_blocks(num_samples)), np.float32)
    with _Synth(soundfont, setup, performance, sample_rate) as synth:
        for channel in range(len(programs) * num_layers):
            program = programs[channel % len(programs)]
            synth.program(channel, program, performance.drum_kit, performance.gains_db.get(program, 0.0))
        silent = tuple(notes[number] for number in synth.render(_events(notes, channels, sample_rate), output))
    output = output[:, :, :num_samples]
    if not stems:
        return Rendering(sample_rate, programs, output[0], silent=silent)
    return Rendering(sample_rate, programs, output.sum(axis=0), output[: len(programs)], silent)


def volume_of(gain_db: Decibels) -> int:
    """Convert a gain to controller 7: SoundFont 2.04 section 8.4.2, amplitude = (volume / 127) ** 2."""
    return int(np.clip(round(NEUTRAL_VOLUME * 10 ** (gain_db / 40)), 1, 127))


def _whole_blocks(num_samples: int) -> int:
    return -(-num_samples // BLOCK_SAMPLES) * BLOCK_SAMPLES


def _layers(notes: Sequence[Note]) -> list[int]:
    """Assign each note the first layer of its part on which its pitch is silent."""
    free_from: dict[tuple[int, int], list[Seconds]] = {}
    layers = []
    for note in notes:
        ends = free_from.setdefault((note.program, note.pitch), [])
        layer = next((index for index, end_s in enumerate(ends) if end_s <= note.onset_s), len(ends))
        ends[layer : layer + 1] = [note.offset_s]
        layers.append(layer)
    return layers


def _events(notes: Sequence[Note], channels: Sequence[int], sample_rate: int) -> list[_Event]:
    """List events in the order in which they happen; at one time keys go up before others go down."""
    events = []
    for number, (note, channel) in enumerate(zip(notes, channels, strict=True)):
        on, off = (round(at_s * sample_rate / BLOCK_SAMPLES) for at_s in (note.onset_s, note.offset_s))
        events.append(_Event(on * BLOCK_SAMPLES, channel, note.pitch, note.velocity, number))
        events.append(_Event(max(on + 1, off) * BLOCK_SAMPLES, channel, note.pitch, 0, number))
    return sorted(events, key=lambda event: (event.sample, event.velocity > 0, event.channel, event.pitch))


# --- the library


@functools.cache
def _library() -> Any:
    """Import pyfluidsynth, and declare the functions that it does not declare itself."""
    try:
        with contextlib.redirect_stdout(None):  # it prints where it found the C library where CI is set
            import fluidsynth
    except ImportError as error:  # pyfluidsynth looks for the C library when it is imported
        raise UsageError(f"FluidSynth is not installed ({error}): {INSTALL}") from error
    fl, pointer, integer = fluidsynth._fl, ctypes.c_void_p, ctypes.c_int
    buffers = ctypes.POINTER(pointer)
    for name, result, arguments in (
        ("fluid_synth_process", integer, [pointer, integer, integer, buffers, integer, buffers]),
        ("fluid_synth_get_sfont", pointer, [pointer, ctypes.c_uint]),
        ("fluid_synth_add_sfont", integer, [pointer, pointer]),
        ("fluid_synth_remove_sfont", integer, [pointer, pointer]),
        ("fluid_set_log_function", pointer, [integer, pointer, pointer]),
        ("fluid_synth_noteon", integer, [pointer, integer, integer, integer]),
        ("fluid_synth_noteoff", integer, [pointer, integer, integer]),
    ):
        function = getattr(fl, name)
        function.restype, function.argtypes = result, arguments
    for level in range(1, 5):  # errors are told by return values, and warnings concern the sound card
        fl.fluid_set_log_function(level, None, None)
    return fluidsynth


def _settings(values: dict[str, int | float]) -> int:
    library = _library()
    settings = library.new_fluid_settings()
    for name, value in values.items():
        if isinstance(value, int):
            done = library.fluid_settings_setint(settings, name.encode(), value)
        else:
            done = library.fluid_settings_setnum(settings, name.encode(), value)
        if done != _OK:
            library.delete_fluid_settings(settings)
            raise UsageError(f"FluidSynth {version()} refuses {name} = {value}; {INSTALL} (2.2 or newer)")
    return int(settings)


@functools.cache
def _loaded(soundfont: Soundfont) -> tuple[int, int]:
    """Load a soundfont once: a synthesizer that never sounds keeps it, and its number there; both stay for good."""
    library = _library()
    keeper = library.new_fluid_synth(_settings({"synth.lock-memory": 0}))
    number = library.fluid_synth_sfload(keeper, str(soundfont.path).encode(), 0)
    if number < 0:
        library.delete_fluid_synth(keeper)
        problem = f"FluidSynth {version()} cannot load it"
        raise UsageError(f"soundfont {soundfont.path}: {problem}; name another, or {INSTALL}")
    return keeper, library._fl.fluid_synth_get_sfont(keeper, 0)


class _Synth:
    """A synthesizer for one rendering."""

    def __init__(self, soundfont: Soundfont, setup: dict[str, int], performance: Performance, sample_rate: int) -> None:
        self._library, self._soundfont, room = _library(), soundfont, performance.room
        self._sfont = _loaded(soundfont)[1]
        values: dict[str, int | float] = {
            **setup,
            "synth.sample-rate": float(sample_rate),
            "synth.gain": MASTER_GAIN,
            "synth.polyphony": POLYPHONY,
            "synth.cpu-cores": 1,
            "synth.threadsafe-api": 0,
            "synth.lock-memory": 0,
            "synth.chorus.active": 0,
            "synth.reverb.active": int(room.level > 0),
            "synth.reverb.room-size": float(room.size),
            "synth.reverb.damp": float(room.damping),
            "synth.reverb.width": float(room.width),
            "synth.reverb.level": float(room.level),
        }
        self._settings = _settings(values)
        self._synth = self._library.new_fluid_synth(self._settings)
        self._number = self._library._fl.fluid_synth_add_sfont(self._synth, self._sfont)

    def __enter__(self) -> "_Synth":
        return self

    def __exit__(self, *exception: object) -> None:
        self._library._fl.fluid_synth_remove_sfont(self._synth, self._sfont)  # else it is freed with the synthesizer
        self._library.delete_fluid_synth(self._synth)
        self._library.delete_fluid_settings(self._settings)

    def program(self, channel: int, program: int, drum_kit: int, gain_db: Decibels) -> None:
        """Set up a channel; a kit that the soundfont lacks is its standard one."""
        is_drums = program == DRUMS
        wanted = [(DRUM_BANK, drum_kit), (DRUM_BANK, 0)] if is_drums else [(0, program)]
        select = self._library.fluid_synth_program_select
        if all(select(self._synth, channel, self._number, *preset) != _OK for preset in wanted):
            name = "percussion" if is_drums else f"program {program}, {PROGRAM_NAMES[program]}"
            raise UsageError(f"soundfont {self._soundfont.path}: has no {name}; use a complete General MIDI one")
        self._library.fluid_synth_cc(self._synth, channel, VOLUME, volume_of(gain_db))

    def render(self, events: Sequence[_Event], output_GCT: Waveform) -> list[int]:
        """Play all events into zeroed buffers (groups, 2, whole blocks); numbers of the notes that do not sound."""
        silent: list[int] = []
        fl, synth = self._library._fl, self._synth
        process, note_on, note_off = fl.fluid_synth_process, fl.fluid_synth_noteon, fl.fluid_synth_noteoff
        count, num_outputs = self._library.fluid_synth_get_active_voice_count, 2 * len(output_GCT)
        starts = [output_GCT[group, side].ctypes.data for group in range(len(output_GCT)) for side in (0, 1)]
        # Reverberation (and chorus, which is off) is added to the stem that it belongs to.
        wet = [group * 2 + side for group in range(len(output_GCT)) for _ in range(2) for side in (0, 1)]
        dry_type, wet_type = ctypes.c_void_p * num_outputs, ctypes.c_void_p * len(wet)
        for start, stop, happening in _stretches(events, output_GCT.shape[2]):
            for event in happening:
                if not event.velocity:
                    note_off(synth, event.channel, event.pitch)
                    continue
                voices = count(synth)
                note_on(synth, event.channel, event.pitch, event.velocity)
                if count(synth) == voices:  # a key in no zone of the soundfont starts no voice
                    silent.append(event.note)
            addresses = [address + 4 * start for address in starts]
            dry, effects = dry_type(*addresses), wet_type(*(addresses[index] for index in wet))
            process(synth, stop - start, len(wet), effects, num_outputs, dry)
        return silent


def _stretches(events: Sequence[_Event], num_samples: int) -> Iterator[tuple[int, int, list[_Event]]]:
    """Divide time at events: (start, stop, what happens at the start)."""
    happening: list[_Event] = []
    start = 0
    for event in events:
        sample = min(event.sample, num_samples)
        if sample > start:
            yield start, sample, happening
            start, happening = sample, []
        happening.append(event)
    if start < num_samples:
        yield start, num_samples, happening
