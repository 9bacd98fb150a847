"""What hf_synpre generates for the names of a table: python our_texts.py MODEL CSV

It is the generation with which `synpre finetune` tests a decoder.
"""

import csv
import json
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_synpre.data.encoding import encode_texts
from hf_synpre.finetuning.completion_head import CompletionCollator
from hf_synpre.finetuning.text_to_text import generate_ids

folder, rows = sys.argv[1:]
with Path(rows).open(newline="") as file:
    names = [row["name"] for row in csv.DictReader(file)]
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
collator = CompletionCollator(
    tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.model_max_length, max_target=64
)
sources = [{"input_ids": ids} for ids in encode_texts(tokenizer, names)["input_ids"]]
limit = model.generation_config.max_new_tokens
ids = generate_ids(model, sources, collator.prompts, limit=limit)
print(json.dumps({"texts": tokenizer.batch_decode(ids, skip_special_tokens=True)}))
