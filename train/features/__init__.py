"""Front ends: from waveforms to the input of a model. Plain torch, batched, on any device.

torchaudio_import.py torchaudio, whose banks, spectra and decibels these are, also beside a CPU build of torch
spectrum.py         power spectrum: frames x windowed DFT basis, or FFT
logmel.py           log-mel, and the papers' parameter sets
mfcc.py             cepstral coefficients of it
fbank.py            Kaldi's filter banks, AST's front end
chroma.py           energy per pitch class
cqt.py              constant-Q transform, one bin per piano key
scalogram.py        Gaussian-modulated sines, trainable
image.py            spectrograms as images of the sizes that vision models take
classical.py        28 numbers per clip, for support vector machines
standardization.py  mean and deviation over the training split
"""

from tutti.train.features.chroma import Chroma, ChromaConfig, chroma_filters
from tutti.train.features.classical import CLASSICAL_FEATURES, ClassicalConfig, ClassicalFeatures
from tutti.train.features.fbank import AUDIOSET_STATISTICS, KaldiFbank
from tutti.train.features.image import (
    IMAGENET,
    ImageConfig,
    Sizing,
    ThreeChannels,
    ThreeChannelsConfig,
    frames_per_image,
    repeat_channels,
    resize,
    to_image,
)
from tutti.train.features.logmel import (
    KALDI,
    LUMEN_DB,
    LogMel,
    LogMelConfig,
    mel_edges_hz,
    mel_filters,
)
from tutti.train.features.mfcc import Mfcc, MfccConfig
from tutti.train.features.scalogram import Scalogram, ScalogramConfig, wavelets
from tutti.train.features.spectrum import PowerSpectrum, centered_frames, num_frames
from tutti.train.features.standardization import MIN_STD_DB, Standardization, standardization

__all__ = [
    "AUDIOSET_STATISTICS",
    "CLASSICAL_FEATURES",
    "IMAGENET",
    "KALDI",
    "LUMEN_DB",
    "MIN_STD_DB",
    "Chroma",
    "ChromaConfig",
    "ClassicalConfig",
    "ClassicalFeatures",
    "ImageConfig",
    "KaldiFbank",
    "LogMel",
    "LogMelConfig",
    "Mfcc",
    "MfccConfig",
    "PowerSpectrum",
    "Scalogram",
    "ScalogramConfig",
    "Sizing",
    "Standardization",
    "ThreeChannels",
    "ThreeChannelsConfig",
    "centered_frames",
    "chroma_filters",
    "frames_per_image",
    "mel_edges_hz",
    "mel_filters",
    "num_frames",
    "repeat_channels",
    "resize",
    "standardization",
    "to_image",
    "wavelets",
]
