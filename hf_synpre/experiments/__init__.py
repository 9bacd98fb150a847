"""Experiments: one YAML file -> arms x tasks x seeds, a JSON file for each; resumable.

An *arm* is where the weights come from before fine-tuning: random, a checkpoint, its statistics. A
*cell* is one fine-tuning run: one arm on one task with one seed.

1. `spec.ExperimentSpec`: the YAML, checked -> its cells, in the order of their computation.
2. `runner.Experiment`: a spec and a folder -> the files of the cells that are missing, computed in
   parallel, and a line for each failure.
3. `artifacts.Artifacts`: a task or a pre-training run by name -> token ids or a checkpoint on disk,
   made once.
4. `cell.compute_cell`: one cell -> the content of its file: scores, curve, cost of each phase.
5. `learning_rates.choose_trial`: the trials of a cell's learning rates -> the best on validation.
6. `progress.Progress`: the files of a folder -> a table of how far the experiment is.

hf_synpre/report makes tables and plots of the files.
"""

from hf_synpre.experiments.arm import ArmSpec
from hf_synpre.experiments.runner import Experiment
from hf_synpre.experiments.spec import Cell, ExperimentSpec
from hf_synpre.experiments.task import TaskSpec

__all__ = ["ArmSpec", "Cell", "Experiment", "ExperimentSpec", "TaskSpec"]
