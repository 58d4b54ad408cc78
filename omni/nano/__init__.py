"""The embedded default: a small trained checkpoint, and recordings to ask it."""
