"""What transformers lacks of models, and how a run's model comes about.

1. `spec.ModelSpec`: fields of a YAML or flags -> a config; `validate()` builds it once without weights.
2. `families`: a config -> its family ("seq2seq", "causal", "mlm"), its Auto class, its longest input.
3. `initial_weights`: a fresh model -> weights as T5X draws them, or encoders that attend to near positions.
   `pretrained_weights`: a checkpoint -> the weights of a model with the same head, another one or none.
4. `packed_forward`: a model -> the same model, which takes packed rows with their segments.
   `masked_head`: a masked language model -> the same model, which computes logits at masked positions only.
5. `electra`: a config -> generator and discriminator as one model, its loss and metrics, two plain checkpoints.
"""
