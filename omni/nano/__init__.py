"""The embedded default model: its weights, and questions to ask it."""
