"""The Hub: what is pushed comes back with plain Hugging Face calls; refusals are one clear line; no secret leaves.

The Hub is tests/hub_server.py; its clients are unmodified huggingface_hub, datasets and transformers in other processes.
"""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hub_server import TOKENS
from safetensors.numpy import save_file

from hf_synpre import UsageError, hub
from hf_synpre.cli import main
from hf_synpre.data.shards import Recipe, build_shards
from hf_synpre.hub import cards

HOME = Path(__file__).parents[2]
WRITE, READ, OTHER = TOKENS
TINY = "d_model=32,d_kv=16,num_heads=2,d_ff=64,num_layers=1,num_decoder_layers=1"


class Server:
    """The stand-in in a process of its own, and clients of it."""

    def __init__(self, folder):
        self.folder, self.said = folder, []
        self.process = subprocess.Popen(
            [sys.executable, HOME / "tests" / "hub_server.py"], stdout=subprocess.PIPE, text=True
        )
        self.address = self.process.stdout.readline().strip()

    def environment(self, token=WRITE, home="home", **more):
        """What clients need before they import anything."""
        fixed = {
            "HF_ENDPOINT": self.address,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(self.folder / home),
        }
        fixed |= {
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0",
        }
        return os.environ | fixed | {"HF_TOKEN": token, "PYTHONPATH": str(HOME)} | more

    def run(self, *words, **environment):
        """Run a program; remember what it says."""
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(
            command,
            env=self.environment(**environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        self.said.append(done.stdout + done.stderr)
        return done

    def client(self, code, **environment):
        """Run Python code; return the JSON that its last line prints."""
        prelude = "import json, time; time.sleep = lambda seconds: None\n"  # no waiting between huggingface_hub's retries
        done = self.run("-c", prelude + code, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def ask(self, path, value=None):
        """Steer the stand-in, or read its log."""
        request = urllib.request.Request(
            self.address + path, json.dumps(value).encode() if value else None
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def files(self, repo):
        return self.ask("/stand-in/log")["repos"].get(repo)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("hub"))
    yield server
    server.close()


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


def push(server, folder, repo_id, *words, **environment):
    """`synpre push` as a process, without waiting between huggingface_hub's retries."""
    code = "import sys, time; time.sleep = lambda seconds: None; from hf_synpre.cli import main; sys.exit(main())"
    return server.run("-c", code, "push", folder, "--repo_id", repo_id, *words, **environment)


LOAD_DATASET = """
from datasets import get_dataset_config_names, load_dataset
from hf_synpre import generate
every = load_dataset("synpre/set")
small = load_dataset("synpre/set", "small", split="train")
streamed = load_dataset("synpre/set", split="train", streaming=True)
tagged = load_dataset("synpre/set", split="validation", revision="v1")
print(json.dumps({
    "configs": get_dataset_config_names("synpre/set"),
    "types": [str(f) for f in every["train"].features.values()],
    "equal": [
        every["train"].to_list() == generate("set", 0, 3500).to_pylist(),
        every["validation"].to_list() == generate("set", 0, 500, split="validation").to_pylist() == tagged.to_list(),
        small.to_list() == generate("set", 0, 300).to_pylist(),
        list(streamed) == generate("set", 0, 3500).to_pylist(),
    ],
}))
"""
LOAD_OFFLINE = """
from datasets import load_dataset
from hf_synpre import generate
print(json.dumps(load_dataset("synpre/set", "default", split="train").to_list() == generate("set", 0, 3500).to_pylist()))
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
model = AutoModelForSeq2SeqLM.from_pretrained("synpre/tiny-set", revision="v1", cache_dir="models")
again = AutoModelForSeq2SeqLM.from_pretrained("synpre/tiny-set", revision="v1", cache_dir="models", local_files_only=True)
card = ModelCard.load("synpre/tiny-set")
print(json.dumps({{
    "class": type(model).__name__,
    "equal": all((tensor == local[name]).all().item() for m in (model, again) for name, tensor in m.state_dict().items()),
    "card": [card.data.license, card.data.library_name, card.data.synpre["task"], card.data.synpre["vocabulary"]["size"]],
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
model = StatisticsInit(AutoModelForSeq2SeqLM, seed=0).from_pretrained("synpre/statistics", **where)
again = StatisticsInit(AutoModelForSeq2SeqLM, seed=0).from_pretrained("synpre/statistics", **where, local_files_only=True)
local = ParameterStatistics.from_pretrained({folder!r})
print(json.dumps({{
    "equal": stats.parameters == local.parameters,
    "same": all((a == b).all().item() for a, b in zip(model.parameters(), again.parameters())),
}}))
"""


def test_statistics_come_back(server, model):
    """A private repository, anonymous but for the token that is passed: revision, token, cache_dir, local_files_only."""
    assert push(server, model, "synpre/statistics", "--tag", "v1", "--private").returncode == 0
    code = LOAD_STATISTICS.format(folder=str(model), token=READ)
    assert server.client(code, token="", home="anonymous") == {"equal": True, "same": True}


def test_statistics_come_without_the_weights(server, model):
    assert push(server, model, "synpre/light").returncode == 0
    code = 'from hf_synpre import ParameterStatistics; ParameterStatistics.from_pretrained("synpre/light"); print("1")'
    before = len(server.ask("/stand-in/log")["log"])
    server.client(code, home="light")
    asked = server.ask("/stand-in/log")["log"][before:]
    assert not any("/cdn/" in line or line.endswith(".safetensors") for line in asked), (
        "large files come from /cdn/"
    )


CALLBACK = """
from pathlib import Path
import numpy as np
import pyarrow.parquet as pq
from transformers import T5Config, T5ForConditionalGeneration
from hf_synpre import SyntheticDataset
from hf_synpre.hub.callback import PushToHub
from hf_synpre.data.collators import Seq2SeqCollator
from hf_synpre.files import write_json
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.trainer import SynpreTrainer
sizes = dict(d_model=32, d_kv=16, num_heads=2, d_ff=64, num_layers=1, num_decoder_layers=1)
ids = dict(vocab_size=64, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
model = T5ForConditionalGeneration(T5Config(**ids, **sizes))
write_json("run/recipe.json", {{"recipe": {{"pretraining": {{"task": "reverse", "vocabulary": 64}}, "model": {{}}}}}})
args = training_arguments("run", dict(max_steps=2, use_cpu=True, per_device_train_batch_size=4, save_strategy="no"))
rows = SyntheticDataset("reverse", size=8, vocabulary=64, max_length=12)
trainer = SynpreTrainer(model, args, train_dataset=rows, data_collator=Seq2SeqCollator(0, 1, 0))
callback = PushToHub("{repo_id}", lambda: trainer.training_cost())
trainer.add_callback(callback)
trainer.train()
print(json.dumps([trainer.state.global_step, callback.url]))
"""


def test_a_shard_whose_rows_were_changed_is_not_pushed(tmp_path):
    recipe = Recipe("set", vocabulary=64, splits={"train": 100})
    (file,) = build_shards(recipe, "default", tmp_path)
    hub.plan_push(tmp_path, "me/set")
    table = pq.read_table(file)
    changed = table.set_column(0, "input_ids", table["labels"]).replace_schema_metadata(
        pq.read_metadata(file).metadata
    )
    pq.write_table(changed, file)
    with pytest.raises(UsageError, match="does not hold the rows that it was built with"):
        hub.plan_push(tmp_path, "me/set")


def test_a_callback_pushes_when_training_ends(server):
    steps, url = server.client(CALLBACK.format(repo_id="synpre/callback"))
    assert steps == 2
    assert url.startswith(f"{server.address}/synpre/callback/commit/")
    assert server.ask("/stand-in/log")["commits"]["models/synpre/callback"] == 2, (
        "one commit after the repository's first"
    )
    with urllib.request.urlopen(
        f"{server.address}/synpre/callback/resolve/main/README.md"
    ) as answer:
        card = answer.read().decode()
    assert "**reverse**" in card
    assert "| steps | 2 |" in card
    assert re.search(r"\| tokens .* \| \d+ \|", card)


def test_a_callback_that_cannot_push_lets_the_run_end(server):
    steps, url = server.client(CALLBACK.format(repo_id="nobody/callback"))
    assert (steps, url) == (2, None)
    assert "The model was not pushed: nobody/callback: your token may not do this" in " ".join(
        server.said[-1].split()
    )


REFUSALS = {
    "no token": (
        {"token": ""},
        "synpre/set",
        "synpre/set: the Hub does not know you",
        "(HTTP 401)",
    ),
    "a wrong token": (
        {"token": "hf_wrong"},
        "synpre/set",
        "synpre/set: the Hub does not know you",
        "(HTTP 401)",
    ),
    "a token that may only read": (
        {"token": READ},
        "synpre/new",
        "your token may not do this",
        "(HTTP 403)",
    ),
    "another's namespace": (
        {"token": OTHER},
        "synpre/new",
        "your token may not do this",
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
    for repo_id, token, status in (
        ("synpre/secret", "", 401),
        ("synpre/secret", OTHER, 404),
        ("synpre/nothing", WRITE, 404),
    ):
        refused = server.run(
            "-m", "hf_synpre", "generate", "--from-card", repo_id, token=token, home=f"home{status}"
        )
        assert refused.returncode == 2
        assert f"(HTTP {status})" in refused.stderr
        assert refused.stderr.count("\n") == 1
    missing = server.run(
        "-m", "hf_synpre", "generate", "--from-card", "synpre/secret", "--revision", "v9"
    )
    assert "no such repository, revision or file (HTTP 404)" in missing.stderr
    assert server.run("-m", "hf_synpre", "generate", "--from-card", "synpre/secret").returncode == 0
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
    self.upload_file(path_or_fileobj=b"x", path_in_repo="other.txt", repo_id=repo_id, repo_type="dataset")
    return real(self, repo_id=repo_id, **given)
HfApi.create_commit = late
try:
    hub.push({folder!r}, "synpre/race")
except hub.UsageError as error:
    print(json.dumps(str(error)))
"""


def test_two_pushes_at_once_do_not_mix(server, dataset):
    refused = server.client(CONFLICT.format(folder=str(dataset)))
    assert (
        refused == "synpre/race: somebody else changed it at the same time; run again (HTTP 412)."
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


# --- what is refused before anything is sent -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "repo_id",
    [
        "set",
        "a/b/c",
        "../set",
        "synpre/..",
        "/etc/passwd",
        "a b/c",
        "synpre/x.git",
        "",
        "http://x/y",
        "a/-b",
        "a/b\n",
    ],
)
def test_repo_ids_are_checked(repo_id, model, capsys):
    with pytest.raises(UsageError, match="is no namespace/name"):
        hub.check_repo_id(repo_id)
    assert main(["push", str(model), f"--repo_id={repo_id}", "--dry_run"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        "../x.json",
        "/etc/x.json",
        "a/../b.json",
        "a//b",
        ".git/config",
        "a/.hidden",
        "c:x",
        "a\\b",
        "a\nb",
        "",
    ],
)
def test_file_names_are_checked(name):
    with pytest.raises(UsageError, match="leads outside of the repository or is hidden"):
        hub.check_file_name(name)


def secret_link(folder):
    (folder.parent / "secret.json").write_text("{}")
    (folder / "more.json").symlink_to(folder.parent / "secret.json")


def no_safetensors(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps({"weights": [1, 2, 3]}))


UNFIT = {
    "a link out of the folder": (
        secret_link,
        "more.json is a link to a file outside of the folder",
    ),
    "a pickle in disguise": (no_safetensors, "model.safetensors is not a whole safetensors file"),
    "a token in a JSON": (
        lambda f: (f / "notes.json").write_text(json.dumps({"key": WRITE})),
        "notes.json holds an access token",
    ),
    "a token in the card": (
        lambda f: (f / "README.md").write_text(f"use {WRITE}"),
        "README.md holds an access token",
    ),
    "nothing to publish": (
        lambda f: [p.unlink() for p in f.glob("p*.json")],
        "holds neither shards of a complete dataset nor",
    ),
    "broken facts": (
        lambda f: (f / "pretraining.json").write_text("{"),
        "pretraining.json is not valid JSON",
    ),
    "facts of another kind": (
        lambda f: (f / "pretraining.json").write_text("[1]"),
        "are not what hf_synpre writes",
    ),
    "an unknown task": (
        lambda f: (f / "pretraining.json").write_text(
            '{"recipe": {"pretraining": {"task": "sett"}}}'
        ),
        "Unknown task 'sett'",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_folders_that_must_not_be_published(what, model, tmp_path, capsys):
    spoil, message = UNFIT[what]
    folder = shutil.copytree(model, tmp_path / "m")
    spoil(folder)
    assert main(["push", str(folder), "--repo_id", "me/m"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert WRITE not in error
    assert error.count("\n") == 1


def test_only_safetensors_and_texts_leave(model, tmp_path, capsys):
    folder = shutil.copytree(model, tmp_path / "m")
    left = [
        "pytorch_model.bin",
        "training_args.bin",
        "a.pkl",
        "a.ckpt",
        "a.npy",
        "weights.h5",
        "code.py",
        ".env",
        "trainer_state.json",
    ]
    for name in left:
        (folder / name).write_bytes(pickle.dumps({}))
    save_file({"x": np.zeros(3)}, folder / "more.safetensors")
    plan = hub.plan_push(folder, "me/m")
    assert set(plan.files) == {
        *(
            "README.md",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "more.safetensors",
        ),
        *("parameter_statistics.json", "pretraining.json"),
    }
    assert set(plan.left_out) == {*left, "optimizer.pt"}
    assert main(["push", str(folder), "--repo_id", "me/m", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "model me/m: 7 files" in out
    assert "stays here: pytorch_model.bin" in out
    assert not (folder / "README.md").exists(), "a dry run writes nothing"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "push needs a folder and a repository"),
        (["nowhere", "--repo_id", "me/x"], "There is no folder nowhere"),
        (["--from_card"], "expected one argument"),
    ],
)
def test_bad_words_of_push(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["generate" if "--from_card" in words else "push", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from-card", "./nowhere"], "is no namespace/name"),
        (["set", "--from-card", "x/y", "--seed", "3"], "leave --seed out"),
        (["set", "--config", "small"], "--config belongs to --from_card"),
        (["--from-card", "synpre/set"], "the Hub cannot be reached"),
    ],
)
def test_bad_words_of_generate_from_card(words, message, capsys):
    assert main(["generate", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# --- cards ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rendered(monkeypatch):
    monkeypatch.syspath_prepend(str(HOME / "model_cards"))
    import render

    return render.cards


def test_committed_cards_are_what_their_json_says(rendered):
    assert {file: file.read_text() for file in rendered()} == rendered(), "run `make cards`"


def scores_of_quickstart():
    return json.loads((HOME / "results" / "quickstart" / "report.json").read_text())["scores"][
        "stdlib_ast"
    ]


def test_a_model_card_says_what_its_json_says(model, rendered, tmp_path):
    home = tmp_path / "model_cards"
    folder = shutil.copytree(model, home / "t5-tiny-set")
    facts = json.loads((folder / "pretraining.json").read_text())
    results = folder / "results" / "demo"
    results.mkdir(parents=True)
    for file in (HOME / "results" / "quickstart").glob("stdlib_ast--*.json"):
        cell = json.loads(file.read_text())
        if cell["arm"] == "statistics":
            cell["phases"]["pretraining"] |= {key: facts[key] for key in cards.SAME_RUN}
        (results / file.name).write_text(json.dumps(cell))
    text = rendered(home, home)[folder / "README.md"]
    assert f"| tokens (input and target, without padding) | {facts['tokens']:,} |" in text
    score, random = (scores_of_quickstart()[arm] for arm in ("statistics", "random"))
    mean = f"{score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}]"
    assert (
        f"| quickstart | stdlib_ast | statistics: **from here** | exact_match | {mean} | 3 |"
        in text
    )
    assert f"| quickstart | stdlib_ast | random | exact_match | {random['value']:.4f}" in text
    (folder / "README.md").write_text(text)
    from huggingface_hub import ModelCard

    entries = ModelCard.load(folder / "README.md").data.eval_results
    assert [(e.task_name, e.metric_value, e.verified) for e in entries] == [
        (
            "stdlib_ast, fine-tuned from weights sampled from these statistics",
            round(score["value"], 4),
            False,
        )
    ], "only what started from this checkpoint"
    (folder / "model.safetensors").unlink()
    assert "holds the statistics of the weights" in rendered(home, home)[folder / "README.md"]


def test_the_release_prints_what_it_would_do(monkeypatch, tmp_path):
    done = subprocess.run(
        [sys.executable, HOME / "dataset_scripts" / "release.py"],
        env=os.environ | {"PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "python -m hf_synpre push runs/datasets/lime --repo_id synpre/lime" in lines
    assert sum(" push runs/datasets/" in line for line in lines) == 21
    assert sum("--config small" in line for line in lines) == 21
    assert sum("build.py lime " in line for line in lines) == 5
    assert lines[-1].startswith("Nothing was done")
    assert list(tmp_path.iterdir()) == []
