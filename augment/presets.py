"""The papers' augmentations, as chains. What a paper leaves open says so."""

from tutti.augment.chain import Chain, Effect
from tutti.augment.transforms.background_noise import BackgroundNoise, NoiseBank
from tutti.augment.transforms.colored_noise import ColoredNoise
from tutti.augment.transforms.concat_same_instrument import ConcatSameInstrument
from tutti.augment.transforms.delay import Delay
from tutti.augment.transforms.frequency_mask import FrequencyMask
from tutti.augment.transforms.gain import Gain
from tutti.augment.transforms.high_pass import HighPass
from tutti.augment.transforms.high_shelf import HighShelf
from tutti.augment.transforms.low_pass import LowPass
from tutti.augment.transforms.low_shelf import LowShelf
from tutti.augment.transforms.mixup import Mixup
from tutti.augment.transforms.peaking import Peaking
from tutti.augment.transforms.pitch_shift import PitchShift
from tutti.augment.transforms.random_erasing import RandomErasing
from tutti.augment.transforms.random_pixel_erasing import RandomPixelErasing
from tutti.augment.transforms.renormalize import Renormalize
from tutti.augment.transforms.reverb import Reverb
from tutti.augment.transforms.sum_with_n import SumWithN
from tutti.augment.transforms.time_inversion import TimeInversion
from tutti.augment.transforms.time_mask import TimeMask
from tutti.augment.transforms.time_shift import TimeShift
from tutti.augment.transforms.time_stretch import TimeStretch


def nsynth_effects() -> Chain:
    """Build the effects of the NSynth pre-training paper, with the probabilities of its code.

    Ranges are torchaudio-augmentations' defaults, which that code takes. Its noise is given as a share
    of the signal's amplitude, .001 to .005: 60 to 46 dB below.
    """
    return Chain(
        (
            Effect(ColoredNoise(min_exponent=0, max_exponent=0, min_snr_db=46, max_snr_db=60), 0.3),
            Effect(Gain(min_gain_db=-20, max_gain_db=-1), 0.2),
            Effect(Chain((Effect(HighPass()), Effect(LowPass())), order="one_of"), 0.8),  # open; that library's example
            Effect(Delay(), 0.5),
            Effect(PitchShift(min_semitones=-7, max_semitones=7), 0.4),
            Effect(Reverb(), 0.3),
        )
    )


def nsynth_pretraining() -> Chain:
    """Build NSynth pre-training's chain: concatenation, effects on 30 % of the examples, mixup.

    Crop the first second after it. Which comes first is open; here each example is made before two are mixed.
    """
    return Chain((Effect(ConcatSameInstrument(), 0.5), Effect(nsynth_effects(), 0.3), Effect(Mixup(alpha=0.3), 0.5)))


def openmic_bilstm() -> Chain:
    """Build OpenMIC BiLSTM's chain: mixup of features (B, F, M), how often is open; `ConcatN` joins before."""
    return Chain((Effect(Mixup(alpha=0.2, target_lufs=None), 0.5),))


def lumen_best() -> Chain:
    """Build the chain of Lumen 2023's best run: sum with 2 and time shift, then the old loudness."""
    return Chain((Effect(SumWithN(num=2)), Effect(TimeShift(), 0.5), Effect(Renormalize())))


def lumen_all(noises: NoiseBank | None = None) -> Chain:
    """Build a chain of every waveform augmentation of Lumen 2023, each for half of the examples.

    For ablations: more than three at a time made its results worse. Without noises (ESC-50 there) there
    is no background noise.
    """
    background = () if noises is None else (Effect(BackgroundNoise(noises), 0.5),)
    effects = (
        Effect(SumWithN(num=2), 0.5),
        *background,
        Effect(TimeStretch(), 0.5),
        Effect(PitchShift(), 0.5),
        Effect(ColoredNoise(), 0.5),
        Effect(TimeInversion(), 0.5),
        Effect(TimeShift(), 0.5),
        Effect(TimeMask(), 0.5),
    )
    return Chain((*effects, Effect(Renormalize())))


def lumen_spectrogram() -> Chain:
    """Build a chain of every spectrogram augmentation of Lumen 2023, each for half of the examples."""
    return Chain((Effect(FrequencyMask(), 0.5), Effect(RandomErasing(), 0.5), Effect(RandomPixelErasing(), 0.5)))


def musical_mixtures(*, musical: bool) -> Chain:
    """Build the musical-mixtures paper's effects on single sources before mixing: random order and parameters.

    Probabilities are open. In a musical mix all sources keep their key and tempo.
    """
    effects = (Effect(Gain(), 0.5), Effect(HighShelf(), 0.5), Effect(LowShelf(), 0.5), Effect(Peaking(), 0.5))
    moving = () if musical else (Effect(PitchShift(), 0.5), Effect(TimeStretch(), 0.5))
    return Chain((*effects, *moving), order="random")
