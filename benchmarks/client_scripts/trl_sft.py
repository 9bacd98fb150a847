"""TRL's SFTTrainer goes on from a decoder: python trl_sft.py MODEL CSV STEPS

The prompt of a row ends with </s>, as the rows do that the decoder was pre-trained on. Prints the
loss of every step; a step reads all rows.
"""

import json
import sys

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

model, rows, steps = sys.argv[1:]
dataset = load_dataset("csv", data_files=rows, split="train")
dataset = dataset.map(
    lambda row: {"prompt": row["name"] + "</s>", "completion": row["statement"]},
    remove_columns=dataset.column_names,
)
arguments = SFTConfig(
    "sft",
    max_steps=int(steps),
    per_device_train_batch_size=len(dataset),
    learning_rate=3e-3,
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    bf16=False,
)
trainer = SFTTrainer(model, arguments, train_dataset=dataset)
trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
assert "hf_synpre" not in sys.modules
print(json.dumps({"losses": losses}))
