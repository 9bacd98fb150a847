"""Vectors of sentence-transformers from an encoder: python sentence_vectors.py MODEL CSV

Prints how far they are at most from the means of the encoder's last states, which is what the
client says it computes, and how far the first states are (another pooling). One text is longer than
the encoder's positions.
"""

import csv
import json
import sys
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

folder, rows = sys.argv[1:]
with Path(rows).open(newline="") as file:
    texts = [row["name"] for row in csv.DictReader(file)]
texts.append(" ".join(texts * 10))
vectors = SentenceTransformer(folder, device="cpu").encode(texts, convert_to_tensor=True)

tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
farthest = {"mean": 0.0, "first": 0.0}
for text, vector in zip(texts, vectors, strict=True):
    inputs = tokenizer(text, return_tensors="pt", truncation=True)
    with torch.no_grad():
        states = model(**inputs).last_hidden_state[0]
    for pooling, expected in (("mean", states.mean(0)), ("first", states[0])):
        distance = (vector - expected).abs().max().item()
        farthest[pooling] = max(farthest[pooling], distance)
assert "hf_synpre" not in sys.modules
print(json.dumps(farthest))
