"""What the tests of this room share: a stand-in of the Hub, a built dataset, a trained model."""

import pickle

import pytest
from hub_clients import TINY, Server

from hf_synpre.cli import main
from hf_synpre.data.recipes import Recipe
from hf_synpre.data.shards import build_shards
from hf_synpre.hub import cards


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("hub"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """A built dataset of two configurations."""
    folder = tmp_path_factory.mktemp("dataset") / "set"
    for name, sizes in {
        "default": {"train": 3500, "validation": 500},
        "small": {"train": 300},
    }.items():
        build_shards(Recipe("set", splits=sizes), name, folder, num_shards=2)
    cards.write_dataset_card(folder, "synpre/set")
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """What `synpre pretrain` writes, with a file in it that must not leave."""
    folder = tmp_path_factory.mktemp("model") / "tiny-set"
    words = [
        "--vocabulary",
        "64",
        "--parameters",
        "min_length=4,max_length=8",
        "--config_overrides",
        TINY,
    ]
    words += ["--max_steps=2", "--per_device_train_batch_size=4", "--output_dir", str(folder)]
    assert main(["pretrain", "set", *words]) == 0
    (folder / "optimizer.pt").write_bytes(pickle.dumps({"a": 1}))
    return folder
