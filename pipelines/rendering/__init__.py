"""From scores to sound: FluidSynth, soundfonts, and what is written of a rendering."""
