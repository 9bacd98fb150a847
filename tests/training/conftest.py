"""Fixtures of the training tests: a finished pre-training run."""

import pytest
from pretraining_runs import MODEL, SPEC

from hf_synpre.training.pretraining import pretrain


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """The folder of a run on the task identity, and its result."""
    folder = tmp_path_factory.mktemp("pretrained") / "identity"
    return folder, pretrain(SPEC, MODEL, folder)
