"""Music as notes: MIDI files, what plays them and how, pieces composed and varied from a seed."""
