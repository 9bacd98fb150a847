"""Anything that has rows (a synthetic task, text) -> rows of ids -> batches."""
