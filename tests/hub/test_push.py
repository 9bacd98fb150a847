"""What is pushed comes back with plain Hugging Face calls; refusals are one line; no token leaves.

Run: pytest tests/hub/test_push.py
"""

import urllib.request

import pytest
from hub_clients import OTHER, READ, TOKENS, WRITE, push

from hf_synpre.data.recipes import Recipe
from hf_synpre.data.shards import build_shards

LOAD_DATASET = """
from datasets import get_dataset_config_names, load_dataset
from hf_synpre import generate
every = load_dataset("synpre/set")
small = load_dataset("synpre/set", "small", split="train")
streamed = load_dataset("synpre/set", split="train", streaming=True)
tagged = load_dataset("synpre/set", split="validation", revision="v1")
validation = generate("set", 0, 500, split="validation").to_pylist()
print(json.dumps({
    "configs": get_dataset_config_names("synpre/set"),
    "types": [str(f) for f in every["train"].features.values()],
    "equal": [
        every["train"].to_list() == generate("set", 0, 3500).to_pylist(),
        every["validation"].to_list() == validation == tagged.to_list(),
        small.to_list() == generate("set", 0, 300).to_pylist(),
        list(streamed) == generate("set", 0, 3500).to_pylist(),
    ],
}))
"""
LOAD_OFFLINE = """
from datasets import load_dataset
from hf_synpre import generate
rows = load_dataset("synpre/set", "default", split="train").to_list()
print(json.dumps(rows == generate("set", 0, 3500).to_pylist()))
"""


def test_a_dataset_comes_back_with_load_dataset(server, dataset):
    pushed = push(server, dataset, "synpre/set", "--tag", "v1")
    assert pushed.returncode == 0, pushed.stderr
    assert "/synpre/set/commit/" in pushed.stdout
    shards = {p.relative_to(dataset).as_posix() for p in dataset.glob("*/*.parquet")}
    assert set(server.files("datasets/synpre/set")) == {".gitattributes", "README.md", *shards}
    loaded = server.client(LOAD_DATASET)
    assert loaded == {
        "configs": ["default", "small"],
        "types": ["List(Value('int32'))"] * 2,
        "equal": [True] * 4,
    }
    asked = len(server.ask("/stand-in/log")["log"])
    assert server.client(LOAD_OFFLINE, HF_HUB_OFFLINE="1") is True
    assert len(server.ask("/stand-in/log")["log"]) == asked + 1, (
        "the cache is enough; the one request is ours"
    )
    rebuilt = server.run("-m", "hf_synpre", "generate", "--from-card", "synpre/set")
    assert (
        rebuilt.returncode,
        rebuilt.stdout.count("rows rebuilt; they equal the card's sha256"),
    ) == (0, 3)


def test_a_second_push_sends_what_changed(server, dataset, tmp_path):
    assert push(server, dataset, "synpre/twice").returncode == 0
    before = server.ask("/stand-in/log")
    assert push(server, dataset, "synpre/twice").returncode == 0
    after = server.ask("/stand-in/log")
    sent = [
        line
        for line in after["log"][len(before["log"]) :]
        if line.startswith("PUT") or "/commit/" in line
    ]
    assert sent == [], "the same files are no commit"
    assert after["commits"]["datasets/synpre/twice"] == 2
    other = (
        tmp_path / "set"
    )  # fewer shards of one configuration: the old ones go, the other configuration stays
    build_shards(
        Recipe("set", splits={"train": 3500, "validation": 500}), "default", other, num_shards=1
    )
    assert push(server, other, "synpre/twice").returncode == 0
    assert set(server.files("datasets/synpre/twice")) == {
        ".gitattributes",
        "README.md",
        "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
        "small/train-00000-of-00001.parquet",
    }
    rebuilt = server.run("-m", "hf_synpre", "generate", "--from-card", "synpre/twice")
    assert rebuilt.stdout.count("rows rebuilt; they equal the card's sha256") == 3, rebuilt.stderr


LOAD_MODEL = """
import os
from huggingface_hub import ModelCard
from transformers import AutoModelForSeq2SeqLM, T5ForConditionalGeneration
local = AutoModelForSeq2SeqLM.from_pretrained({folder!r}).state_dict()
where = {{"revision": "v1", "cache_dir": "models"}}
model = AutoModelForSeq2SeqLM.from_pretrained("synpre/tiny-set", **where)
again = AutoModelForSeq2SeqLM.from_pretrained("synpre/tiny-set", **where, local_files_only=True)
card = ModelCard.load("synpre/tiny-set").data
vocabulary = card.synpre["vocabulary"]
print(json.dumps({{
    "class": type(model).__name__,
    "equal": all(
        (tensor == local[name]).all().item()
        for loaded in (model, again)
        for name, tensor in loaded.state_dict().items()
    ),
    "card": [card.license, card.library_name, card.synpre["task"], vocabulary["size"]],
}}))
"""


def test_a_model_comes_back_with_from_pretrained(server, model):
    pushed = push(server, model, "synpre/tiny-set", "--tag", "v1")
    assert pushed.returncode == 0, pushed.stderr
    files = set(server.files("models/synpre/tiny-set"))
    assert files >= {
        "README.md",
        "config.json",
        "model.safetensors",
        "parameter_statistics.json",
        "pretraining.json",
    }
    assert "optimizer.pt" not in files
    loaded = server.client(LOAD_MODEL.format(folder=str(model)))
    assert loaded == {
        "class": "T5ForConditionalGeneration",
        "equal": True,
        "card": ["apache-2.0", "transformers", "set", 64],
    }


LOAD_STATISTICS = """
from transformers import AutoModelForSeq2SeqLM
from hf_synpre import ParameterStatistics, StatisticsInit
where = {{"revision": "v1", "cache_dir": "statistics", "token": {token!r}}}
stats = ParameterStatistics.from_pretrained("synpre/statistics", **where)
init = StatisticsInit(AutoModelForSeq2SeqLM, seed=0)
model = init.from_pretrained("synpre/statistics", **where)
again = init.from_pretrained("synpre/statistics", **where, local_files_only=True)
local = ParameterStatistics.from_pretrained({folder!r})
print(json.dumps({{
    "equal": stats.parameters == local.parameters,
    "same": all((a == b).all().item() for a, b in zip(model.parameters(), again.parameters())),
}}))
"""


def test_statistics_come_back(server, model):
    """A private repository, read with the token that is passed and with no other."""
    assert push(server, model, "synpre/statistics", "--tag", "v1", "--private").returncode == 0
    code = LOAD_STATISTICS.format(folder=str(model), token=READ)
    before = len(server.ask("/stand-in/log")["log"])
    assert server.client(code, token="", home="anonymous") == {"equal": True, "same": True}

    # The weights stay on the Hub.
    asked = server.ask("/stand-in/log")["log"][before:]
    assert any("/synpre/statistics/" in line for line in asked)
    assert not any("/cdn/" in line or line.endswith(".safetensors") for line in asked), (
        "large files come from /cdn/"
    )


REFUSALS = {
    "no token": (
        {"token": ""},
        "synpre/set",
        "synpre/set: you are not logged in",
        "(HTTP 401)",
    ),
    "a wrong token": (
        {"token": "hf_wrong"},
        "synpre/set",
        "synpre/set: you are not logged in",
        "(HTTP 401)",
    ),
    "a token that may only read": (
        {"token": READ},
        "synpre/new",
        "your token does not allow this",
        "(HTTP 403)",
    ),
    "another's namespace": (
        {"token": OTHER},
        "synpre/new",
        "your token does not allow this",
        "(HTTP 403)",
    ),
    "no network": ({"HF_HUB_OFFLINE": "1"}, "synpre/new", "the Hub cannot be reached", ""),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_of_a_push_are_one_clear_line(what, server, dataset):
    environment, repo_id, *messages = REFUSALS[what]
    refused = push(server, dataset, repo_id, **environment)
    assert refused.returncode == 2
    assert all(message in refused.stderr for message in messages), refused.stderr
    assert refused.stderr.count("\n") == 1
    assert server.files("datasets/synpre/new") is None


def test_private_and_missing_datasets_are_refused(server, dataset):
    assert push(server, dataset, "synpre/secret", "--private").returncode == 0
    generate = ["generate", "--from-card"]
    no_token, others_token, nothing, missing, done = server.commands(
        ("", [*generate, "synpre/secret"]),
        (OTHER, [*generate, "synpre/secret"]),
        (WRITE, [*generate, "synpre/nothing"]),
        (WRITE, [*generate, "synpre/secret", "--revision", "v9"]),
        (WRITE, [*generate, "synpre/secret"]),
        home="new",
    )
    for refused, status in ((no_token, 401), (others_token, 404), (nothing, 404)):
        assert refused.returncode == 2
        assert f"(HTTP {status})" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert "no such repository, revision or file (HTTP 404)" in missing.stderr
    assert done.returncode == 0
    with_read_token = server.client(
        LOAD_OFFLINE.replace("synpre/set", "synpre/secret"), token=READ, home="reader"
    )
    assert with_read_token is True


@pytest.mark.parametrize("what", ["put", "commit", "answer"])
def test_a_cut_upload_is_all_or_nothing(what, server, tmp_path):
    repo_id, dataset = f"synpre/cut-{what}", tmp_path / "set"
    build_shards(Recipe("set", seed=len(what), splits={"train": 900}), "default", dataset)
    server.ask("/stand-in/break", {"what": what, "times": 1000})
    cut = push(server, dataset, repo_id)
    server.ask("/stand-in/break", {"what": what, "times": 0})
    assert cut.returncode == 1
    assert "the transfer broke off" in cut.stderr
    assert "Traceback" not in cut.stderr
    whole = {".gitattributes", "README.md", "data/train-00000-of-00001.parquet"}
    assert set(server.files(f"datasets/{repo_id}")) == (
        whole if what == "answer" else {".gitattributes"}
    )
    assert push(server, dataset, repo_id).returncode == 0
    assert set(server.files(f"datasets/{repo_id}")) == whole
    assert server.ask("/stand-in/log")["commits"][f"datasets/{repo_id}"] == 2


CONFLICT = """
from hf_synpre import hub
from huggingface_hub import HfApi
real = HfApi.create_commit
def late(self, repo_id, **given):
    HfApi.create_commit = real
    where = {{"repo_id": repo_id, "repo_type": "dataset"}}
    self.upload_file(path_or_fileobj=b"x", path_in_repo="other.txt", **where)
    return real(self, repo_id=repo_id, **given)
HfApi.create_commit = late
try:
    hub.push({folder!r}, "synpre/race")
except hub.PushError as error:
    print(json.dumps(str(error)))
"""


def test_two_pushes_at_once_do_not_mix(server, dataset):
    refused = server.client(CONFLICT.format(folder=str(dataset)))
    assert refused.startswith(
        "synpre/race: somebody else changed the repository at the same time (HTTP 412); "
    )
    assert set(server.files("datasets/synpre/race")) == {".gitattributes", "other.txt"}


def test_a_token_is_nowhere(server, dataset, model):
    """After all of the above: not in what was said, written or published."""
    assert push(server, model, "synpre/token-free").returncode == 0
    assert not any(token in said for said in server.said for token in TOKENS)
    for folder in (dataset, model, server.folder):
        for file in folder.rglob("*"):
            if file.is_file():
                assert not any(token.encode() in file.read_bytes() for token in TOKENS), file
    for kind, name in (r.split("/", 1) for r in server.ask("/stand-in/log")["repos"]):
        for path in server.files(f"{kind}/{name}"):
            prefix = "datasets/" if kind == "datasets" else ""
            request = urllib.request.Request(f"{server.address}/{prefix}{name}/resolve/main/{path}")
            request.add_unredirected_header("Authorization", f"Bearer {READ}")
            with urllib.request.urlopen(request) as answer:
                assert not any(token.encode() in answer.read() for token in TOKENS)
