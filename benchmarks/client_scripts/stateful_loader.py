"""torchdata's StatefulDataLoader on our rows: python stateful_loader.py KIND WORKERS STEPS

KIND is stream (load_synthetic with streaming), map (SyntheticDataset, shuffled) or a folder of
`synpre build`, which is streamed. STEPS batches are read, the state of the loader is written to
state.pt, and the digests of the batches that follow are printed. With 0 STEPS the loader goes on
from state.pt, in this new process.
"""

import hashlib
import json
import sys

import torch
from datasets import load_dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from hf_synpre import Seq2SeqCollator, SyntheticDataset, load_synthetic

ROWS = 40_000
BATCH = 250

kind, workers, steps = sys.argv[1:]
options = {"vocabulary": 64, "size": ROWS, "max_length": 16, "min_length": 4}
if kind == "stream":
    rows = load_synthetic("set", streaming=True, **options)
elif kind == "map":
    rows = SyntheticDataset("set", **options)
else:
    rows = load_dataset(kind, split="train", streaming=True)


def digest(batch):
    return hashlib.sha256(batch["input_ids"].numpy().tobytes()).hexdigest()[:16]


loader = StatefulDataLoader(
    rows,
    batch_size=BATCH,
    collate_fn=Seq2SeqCollator(pad=0, eos=1, start=0),
    num_workers=int(workers),
    shuffle=kind == "map",
)
if steps == "0":
    loader.load_state_dict(torch.load("state.pt"))
    batches = iter(loader)
else:
    batches = iter(loader)
    for _ in range(int(steps)):
        next(batches)
    torch.save(loader.state_dict(), "state.pt")
print(json.dumps({"batches": [digest(batch) for batch in batches]}))
