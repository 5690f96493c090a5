"""Mixtures of the stems of songs, made while training: which stems, from where in their songs, how, and their sum."""
