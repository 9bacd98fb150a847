"""A Trainer callback: the end of a pre-training run -> its model and card on the Hub."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging

from hf_synpre import hub
from hf_synpre.errors import UsageError
from hf_synpre.files import read_json, write_json
from hf_synpre.initialization import STATISTICS_FILE, ParameterStatistics
from hf_synpre.provenance import write_facts
from hf_synpre.training.callbacks import evaluation_curve
from hf_synpre.training.run_folder import RECIPE_FILE, RESULT_FILE
from hf_synpre.training.weight_facts import pretraining_facts

logger = logging.get_logger(__name__)


class PushToHub(TrainerCallback):
    """Publishes what a run made in one commit when training ends.

    Published are the model, its tokenizer, its parameter statistics, pretraining.json and a card.
    The card has the recipe of recipe.json in the run's output folder. A push that fails is logged
    and not raised, so that the run still saves its model.

    Args:
        repo_id: namespace/name on the Hub.
        training_cost: returns the cost of the run: tokens, FLOPs and seconds
            (`SynpreTrainer.training_cost`).
        private: whether a new repository is private; None leaves it to the account's settings.

    Attributes:
        url: the URL of the commit; None before it, and if the push failed.

    Examples:
        >>> trainer.add_callback(PushToHub("me/t5-set", trainer.training_cost))
    """

    def __init__(
        self,
        repo_id: str,
        training_cost: Callable[[], dict[str, Any]] = dict,
        *,
        private: bool | None = None,
    ):
        self.repo_id = hub.check_repo_id(repo_id)
        self.training_cost = training_cost
        self.private = private
        self.url: str | None = None

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Write the model's files into a temporary folder and push it, in the first process."""
        if not state.is_world_process_zero:
            return
        model: PreTrainedModel = kwargs["model"]
        tokenizer = kwargs.get("processing_class")

        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            model.save_pretrained(folder)
            if tokenizer:
                tokenizer.save_pretrained(folder)
            statistics = ParameterStatistics.from_model(model, source=self.repo_id)
            statistics.save(folder / STATISTICS_FILE)
            result = self.run_result(args, state)
            write_json(folder / RESULT_FILE, result)
            facts = pretraining_facts(result["recipe"] or {}, result.get("tokens", 0))
            write_facts(folder, facts)

            try:
                self.url = hub.push(folder, self.repo_id, private=self.private)
            except (UsageError, hub.PushError) as error:
                logger.error(f"The model was not pushed: {error} Push it later with `synpre push`.")

    def run_result(self, args: TrainingArguments, state: TrainerState) -> dict[str, Any]:
        """Return the content of pretraining.json: the run's cost, its curve and its recipe.

        Args:
            args: the run's arguments; their output folder may hold a recipe.
            state: the Trainer's state, with its log.
        """
        curve = evaluation_curve(state.log_history, metrics=("loss", "token_accuracy"))
        accuracy = curve[-1].get("token_accuracy") if curve else None
        used_all_steps = state.global_step >= state.max_steps

        recipe_file = Path(args.output_dir) / RECIPE_FILE
        recipe = read_json(recipe_file).get("recipe") if recipe_file.exists() else None
        return {
            "steps": state.global_step,
            **self.training_cost(),
            "stopped": "budget" if used_all_steps else "competence",
            "accuracy": accuracy,
            "curve": curve,
            "recipe": recipe,
        }
