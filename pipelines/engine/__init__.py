"""Running of stages on Beam: wiring, runners, progress, the watch over what stands still."""
