"""Models: the parts that transformers lacks, and the steps from a spec to a run's model.

1. `spec.ModelSpec`: fields of a YAML or flags -> a config; `validate()` tries to build its model.
2. `families`: a config -> its family ("seq2seq", "causal", "mlm"), Auto class and longest input.
3. `initial_weights`: a fresh model -> the same with T5X's weights, or with heads that attend to
   near positions.
   `pretrained_weights`: a model and a checkpoint -> the model with the checkpoint's weights.
4. `packed_forward`: a model -> the same, which takes packed rows with their segments.
   `masked_head`: a masked language model -> the same, with logits at masked positions only.
   `chunked_head`: a language model and labels -> the loss, without the logits of a whole batch.
   `trial_rows`: a model -> the small row on which these three are tried.
5. `electra`: a config -> generator and discriminator as one model. `electra_losses`: its loss and
   metrics.
"""
