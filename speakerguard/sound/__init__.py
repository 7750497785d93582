"""A waveform, and what is done to it before any network hears it."""
