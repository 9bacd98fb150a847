"""Layer 4: an experiment = arms x downstream tasks x seeds, one JSON a cell, resumable cell by cell."""

from hf_synpre.experiments.campaign import Experiment
from hf_synpre.experiments.spec import ArmSpec, Cell, ExperimentSpec, TaskSpec

__all__ = ["ArmSpec", "Cell", "Experiment", "ExperimentSpec", "TaskSpec"]
