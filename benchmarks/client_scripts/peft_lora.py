"""A LoRA adapter of peft on a decoder, saved and loaded again: python peft_lora.py MODEL

Prints how far the logits of the adapted model are from those of the base model, of the model that
is loaded from the adapter's folder alone, and of the base model with the adapter merged into it.
"""

import json
import sys

import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
ids = tokenizer("os.path.join</s>from os.path import join", return_tensors="pt").input_ids
base = AutoModelForCausalLM.from_pretrained(folder).eval()
with torch.no_grad():
    before = base(ids).logits

adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4)).train()
optimizer = torch.optim.AdamW(adapted.parameters(), lr=1e-2)
for _ in range(5):
    adapted(ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
adapted.eval().save_pretrained("adapter")
with torch.no_grad():
    after = adapted(ids).logits

loaded = AutoPeftModelForCausalLM.from_pretrained("adapter").eval()
with torch.no_grad():
    again = loaded(ids).logits
loaded.merge_and_unload().save_pretrained("merged")
merged = AutoModelForCausalLM.from_pretrained("merged").eval()
with torch.no_grad():
    of_merged = merged(ids).logits


def distance(logits):
    return (logits - after).abs().max().item()


distances = {"base": distance(before), "loaded": distance(again), "merged": distance(of_merged)}
assert "hf_synpre" not in sys.modules
print(json.dumps(distances))
