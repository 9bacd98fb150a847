"""The Trainer of all phases, and pre-training with it."""
