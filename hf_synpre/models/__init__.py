"""What transformers lacks of models."""
