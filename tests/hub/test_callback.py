"""A callback pushes what a run made when training ends, and lets the run end where it cannot.

Run: pytest tests/hub/test_callback.py
"""

import json
import re
import urllib.request

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
recipe = {"pretraining": {"task": "reverse", "vocabulary": 64}, "model": {}}
write_json("run/recipe.json", {"recipe": recipe})
sizes = dict(d_model=32, d_kv=16, num_heads=2, d_ff=64, num_layers=1, num_decoder_layers=1)
ids = dict(vocab_size=64, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
training = dict(max_steps=2, use_cpu=True, per_device_train_batch_size=4, save_strategy="no")
args = training_arguments("run", training)
rows = SyntheticDataset("reverse", size=8, vocabulary=64, max_length=12)
ends = []
for repo_id in ("synpre/callback", "nobody/callback"):
    model = T5ForConditionalGeneration(T5Config(**ids, **sizes))
    trainer = SynpreTrainer(
        model, args, train_dataset=rows, data_collator=Seq2SeqCollator(0, 1, 0)
    )
    callback = PushToHub(repo_id, trainer.training_cost)
    trainer.add_callback(callback)
    trainer.train()
    ends.append([trainer.state.global_step, callback.url])
print(json.dumps(ends))
"""


def test_a_callback_pushes_when_training_ends_and_lets_the_run_end_where_it_cannot(server):
    (steps, url), not_pushed = server.client(CALLBACK)
    assert steps == 2
    assert url.startswith(f"{server.address}/synpre/callback/commit/")
    assert server.ask("/stand-in/log")["commits"]["models/synpre/callback"] == 2, (
        "one commit after the repository's first"
    )
    with urllib.request.urlopen(
        f"{server.address}/synpre/callback/resolve/main/README.md"
    ) as answer:
        card = answer.read().decode()
    weights = f"{server.address}/synpre/callback/resolve/main/model.safetensors"
    with urllib.request.urlopen(weights) as answer:
        content = answer.read()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"]["task"] == "reverse"
    assert int(header["__metadata__"]["tokens"]) > 0
    assert "**reverse**" in card
    assert "| steps | 2 |" in card
    assert re.search(r"\| tokens .* \| \d+ \|", card)

    assert not_pushed == [2, None]
    assert "The model was not pushed: nobody/callback: your token does not allow this" in " ".join(
        server.said[-1].split()
    )
