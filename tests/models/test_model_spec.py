"""Architectures of a run: fields of a YAML or flags, or a config file, become a config.

Run: pytest tests/models/test_model_spec.py
"""

from pretraining_runs import MODEL
from small_models import TINY

from hf_synpre.models.spec import ModelSpec
from hf_synpre.vocabulary import as_vocabulary


def test_a_config_file_is_an_architecture(tmp_path):
    MODEL.config(as_vocabulary(48)).save_pretrained(tmp_path)
    config = ModelSpec(
        config_name=str(tmp_path / "config.json"), overrides={"num_layers": 3}
    ).config(as_vocabulary(99))
    assert (config.d_model, config.num_layers, config.vocab_size) == (TINY["d_model"], 3, 99)
