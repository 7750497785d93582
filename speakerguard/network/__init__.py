"""From waveform to embedding, in torch."""
