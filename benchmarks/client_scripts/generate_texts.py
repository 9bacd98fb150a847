"""The pipeline text-generation on the names of a table: python generate_texts.py MODEL CSV"""

import csv
import json
import sys
from pathlib import Path

from transformers import pipeline

folder, rows = sys.argv[1:]
with Path(rows).open(newline="") as file:
    names = [row["name"] for row in csv.DictReader(file)]
generate = pipeline("text-generation", model=folder, device="cpu")
answers = generate(names, return_full_text=False, batch_size=32)
texts = [answer[0]["generated_text"] for answer in answers]
assert "hf_synpre" not in sys.modules
print(json.dumps({"texts": texts}))
