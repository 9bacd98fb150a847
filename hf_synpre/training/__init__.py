"""The Trainer of both phases, and pre-training with it.

1. `PretrainingSpec` (pretraining_spec.py): YAML keys or flags -> a checked spec; presets, some with
   a model of their own (presets.py).
2. `training_arguments` (arguments.py): arguments by name -> transformers' TrainingArguments.
3. `open_rows` (pretraining_data.py): spec, model family, vocabulary -> rows for training and
   evaluation.
4. `fresh_model` (pretraining_trainer.py): spec, architecture, vocabulary -> the model before its
   first step. `pretraining_trainer`: model, rows -> the Trainer of the run.
5. `SynpreTrainer` (trainer.py): model, rows, arguments -> the trained model. It uses the loss of
   losses.py, the optimizers and schedules of optimizers.py, and counts the training cost
   (flops.py). Its evaluations decide when it stops or warns and which weights are kept
   (callbacks.py); it says how far it is (progress.py).
   That of a pre-training, `ResumableTrainer` (resumable_trainer.py), writes checkpoints
   (checkpoints.py).
6. `pretrain` (pretraining.py): spec, architecture -> a folder with model, statistics and result
   (run_folder.py).

Fine-tuning takes steps 2 and 5 from here.
"""
