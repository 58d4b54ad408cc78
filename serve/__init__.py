"""Serving: measure and choose the chunk size on the machine that will answer."""
