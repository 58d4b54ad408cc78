"""The small model on published bases: what was trained for it, and recordings to ask it."""
