"""What a fine-tuned model is saved with.

Run: pytest tests/finetuning/test_saving.py
"""

from types import SimpleNamespace

from hf_synpre.finetuning.saving import serving_tokenizer


def test_the_saved_tokenizer_pads_with_the_id_of_the_config(encoder_tokenizer):
    """`pipeline(..., batch_size=16)` on a decoder needs it."""
    tokenizer = encoder_tokenizer.__class__(tokenizer_object=encoder_tokenizer.backend_tokenizer)
    assert tokenizer.pad_token is None
    task = SimpleNamespace(max_source=8, head_name="classes")
    config = SimpleNamespace(pad_token_id=3, model_type="llama")
    model = SimpleNamespace(config=config)
    saved = serving_tokenizer(SimpleNamespace(tokenizer=tokenizer, task=task), model)
    assert saved.pad_token_id == 3
    assert saved.model_max_length == 8
