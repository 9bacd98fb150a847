"""Fixtures of the training tests: pre-training runs, finished and stopped."""

import pytest
from pretraining_runs import MODEL, SPEC, short_run

from hf_synpre.training.pretraining import pretrain


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """The folder of a run on the task identity, and its result."""
    folder = tmp_path_factory.mktemp("pretrained") / "identity"
    return folder, pretrain(SPEC, MODEL, folder)


@pytest.fixture(scope="session")
def unfinished(tmp_path_factory):
    """The folder of a run that was stopped after its last step: checkpoints 20 and 30."""
    from hf_synpre.training import pretraining

    folder = tmp_path_factory.mktemp("unfinished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "run_result", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            short_run(folder)
    return folder


@pytest.fixture(scope="session")
def short_digest(tmp_path_factory):
    """The weights of the same run where it was not stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    short_run(folder)
    return (folder / "model.safetensors").read_bytes()
