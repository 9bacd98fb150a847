"""Layer 6: a Trainer callback that publishes what a pre-training run made."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from hf_synpre import hub
from hf_synpre.errors import UsageError
from hf_synpre.files import read_json, write_json
from hf_synpre.initialization import STATISTICS_FILE, ParameterStatistics
from hf_synpre.training.callbacks import evaluation_curve
from hf_synpre.training.pretraining import RECIPE_FILE, RESULT_FILE

logger = logging.get_logger(__name__)


class PushToHub(TrainerCallback):
    """Pushes model, tokenizer, parameter statistics, the run's facts and a card, in one commit, when training ends.

    `spent` returns what the run took (the `training_cost` of a SynpreTrainer); the recipe is that of the run's output folder. A
    push that fails is logged, not raised: the run goes on to save what it made.
    """

    def __init__(
        self,
        repo_id: str,
        spent: Callable[[], dict[str, Any]] = dict,
        *,
        private: bool | None = None,
    ):
        self.repo_id, self.spent, self.private = hub.check_repo_id(repo_id), spent, private
        self.url: str | None = None

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Push from the first process."""
        if not state.is_world_process_zero:
            return
        with tempfile.TemporaryDirectory() as folder:
            for part in filter(None, (model, kwargs.get("processing_class"))):
                part.save_pretrained(folder)
            ParameterStatistics.from_model(model, source=self.repo_id).save(
                Path(folder) / STATISTICS_FILE
            )
            write_json(Path(folder) / RESULT_FILE, self.facts(args, state))
            try:
                self.url = hub.push(folder, self.repo_id, private=self.private)
            except (UsageError, hub.PushError) as error:
                logger.error(f"The model was not pushed: {error} `synpre push` does it later.")

    def facts(self, args: TrainingArguments, state: TrainerState) -> dict[str, Any]:
        """Return what pretraining.json says: spent, curve and accuracy, and the recipe that the run's folder holds."""
        curve = evaluation_curve(state.log_history, metrics=("loss", "token_accuracy"))
        stored = Path(args.output_dir) / RECIPE_FILE
        recipe = read_json(stored).get("recipe") if stored.exists() else None
        accuracy = curve[-1].get("token_accuracy") if curve else None
        stopped = "budget" if state.global_step >= state.max_steps else "competence"
        return {
            "steps": state.global_step,
            **self.spent(),
            "stopped": stopped,
            "accuracy": accuracy,
            "curve": curve,
        } | {"recipe": recipe}
