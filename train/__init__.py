"""Training: recipes, batches and one command per part."""
