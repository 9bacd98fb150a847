"""transformers' Trainer on a model of StatisticsInit: python stock_trainer.py MODEL CSV SEED STEPS

StatisticsInit stands where from_pretrained would. Prints the loss of every step; a step reads all
rows.
"""

import json
import sys

from datasets import load_dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from hf_synpre import StatisticsInit

folder, rows, seed, steps = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = StatisticsInit(AutoModelForSeq2SeqLM, seed=int(seed)).from_pretrained(folder)


def encode(row):
    return tokenizer(row["name"], text_target=row["statement"])


dataset = load_dataset("csv", data_files=rows, split="train")
dataset = dataset.map(encode, remove_columns=dataset.column_names)
arguments = Seq2SeqTrainingArguments(
    "stock",
    max_steps=int(steps),
    per_device_train_batch_size=len(dataset),
    learning_rate=3e-3,
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
)
collator = DataCollatorForSeq2Seq(tokenizer, model)
trainer = Seq2SeqTrainer(model, arguments, train_dataset=dataset, data_collator=collator)
trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print(json.dumps({"losses": losses}))
