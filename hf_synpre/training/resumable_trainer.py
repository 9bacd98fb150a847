"""A Trainer whose runs go on after a kill: its checkpoints are whole, and known as its own.

Trainer writes each checkpoint, into a folder with a hidden name; `checkpoints` seals it and gives
it its real name, checkpoint-STEP in the output folder.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedTokenizerBase
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_synpre.errors import UsageError
from hf_synpre.files import temporary_name, writing
from hf_synpre.models.electra import RTDModel, saved_pair
from hf_synpre.models.saving import refuse_tokenizer, usual_use_cache
from hf_synpre.provenance import write_facts
from hf_synpre.training import checkpoints
from hf_synpre.training.trainer import SynpreTrainer
from hf_synpre.training.weight_facts import pretraining_facts

logger = logging.getLogger(__name__)

# The checkpoints that are kept while a run goes on, where save_total_limit is not given. An older
# one is there in case the newest is lost.
USUAL_CHECKPOINTS = 2


class ResumableTrainer(SynpreTrainer):
    """A SynpreTrainer that writes checkpoints and goes on from them.

    Attributes:
        recipe: all that decides the weights of the run; set it before training. Checkpoints of
            other recipes are neither counted nor deleted.
        tokenizer: what is saved in every checkpoint; None where ids are those of a plain
            vocabulary, and AutoTokenizer is to refuse the folder.
        save_total_limit: the checkpoints that are kept, the newest ones; beside them the best one
            where the schedule watches a metric, and the one that resume_from_checkpoint names.

    Args:
        *args, **kwargs: those of `SynpreTrainer`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.recipe: dict[str, Any] = {}
        self.tokenizer: PreTrainedTokenizerBase | None = None
        # Trainer itself would delete by the clock, and also what this run did not make.
        self.save_total_limit = self.args.save_total_limit or USUAL_CHECKPOINTS
        self.args.save_total_limit = None
        # The hidden folder of the checkpoint that is being written.
        self._hidden_folder: Path | None = None

    def save_folder(self, folder: Path, weights: dict[str, torch.Tensor] | None) -> None:
        """Write what from_pretrained loads: the weights, the config, and the tokenizer if any.

        The weights say what they were trained on (`pretraining_facts`).

        Args:
            folder: where they go.
            weights: the model's tensors, where they are gathered from several processes.
        """
        network = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        with usual_use_cache(network):
            network.save_pretrained(folder, state_dict=weights)
        facts = pretraining_facts(self.recipe, self.meter.last["tokens"])
        write_facts(folder, facts)
        write_facts(folder / "generator", facts)  # of a pair; where there is none, nothing
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        else:
            refuse_tokenizer(folder)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the model, its config and its tokenizer; Trainer calls this for a checkpoint."""
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            self.save_folder(folder, state_dict)

    def _get_output_dir(self, trial: Any) -> str:
        """Return the folder in which Trainer makes checkpoint-STEP."""
        return str(self._hidden_folder or self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint with the totals of all processes in it, then delete the oldest ones."""
        self.training_cost()  # every process takes part; the meter remembers the totals
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        checkpoint = Path(self.args.output_dir) / name

        # The first process tells the others where the checkpoint is written, if it is.
        hidden = None
        if self.is_world_process_zero() and checkpoints.may_be_written(checkpoint, self.recipe):
            hidden = temporary_name(checkpoint)
        (hidden,) = broadcast_object_list([hidden])
        if hidden is None:
            return

        self._hidden_folder = hidden
        try:
            with writing(checkpoint):
                super()._save_checkpoint(model, trial)
                self._name_best_checkpoint(hidden / name)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    checkpoints.publish(
                        hidden / name, checkpoint, self.recipe, self.args.world_size
                    )
        finally:
            self._hidden_folder = None
            if self.args.should_save:
                shutil.rmtree(hidden, ignore_errors=True)
        if self.args.should_save:
            spared = {name, f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"}
            named = self.args.resume_from_checkpoint
            if isinstance(named, str | Path):  # the same command is to find it again
                spared |= {Path(named).name}
            checkpoints.delete_oldest(checkpoint.parent, self.recipe, self.save_total_limit, spared)

    def _name_best_checkpoint(self, written: Path) -> None:
        """Call the best checkpoint by its real name, where it is the one that is being written."""
        if self.state.best_model_checkpoint == str(written):
            self.state.best_model_checkpoint = str(Path(self.args.output_dir) / written.name)
            if self.args.should_save:
                self.state.save_to_json(str(written / TRAINER_STATE_NAME))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights; UsageError where they are not this model's."""
        with checkpoints.loading(resume_from_checkpoint):
            network = self.accelerator.unwrap_model(model or self.model)
            is_pair = isinstance(network, RTDModel) and not self.is_fsdp_enabled
            if is_pair and (Path(resume_from_checkpoint) / "generator").is_dir():
                tensors = saved_pair(resume_from_checkpoint)
                self._issue_warnings_after_load(network.load_state_dict(tensors, strict=False))
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Check what a checkpoint held; Trainer calls this when it goes on from one.

        Tied tensors are stored once, so the others of them are not missing.

        Raises:
            UsageError: the checkpoint lacks a tensor of the model, or holds one of another model.
        """
        state = self.model.state_dict()
        missing = set(load_result.missing_keys)
        loaded = {tensor.data_ptr() for name, tensor in state.items() if name not in missing}
        lacking = [name for name in sorted(missing) if state[name].data_ptr() not in loaded]
        left_over = sorted(load_result.unexpected_keys)
        logger.info(
            "Checkpoint: %d tensors loaded, %d missing, %d left over.",
            len(state) - len(lacking),
            len(lacking),
            len(left_over),
        )
        for names, fault in ((lacking, "lacks"), (left_over, "holds, which the model has not,")):
            if names:
                raise UsageError(
                    f"The checkpoint that the run goes on from {fault} {names[0]} ({len(names)} "
                    "tensors in all); move it away, and the run goes on from the one before it."
                )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimizer and the schedule; UsageError where they are not this run's."""
        with checkpoints.loading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Load the states of the random numbers; UsageError where they cannot be loaded.

        They belong to a process: a run of another number of processes has none for this one, which
        is said here where no manifest says it.
        """
        name = "rng_state.pth"
        if self.args.world_size > 1:
            name = f"rng_state_{self.args.process_index}.pth"
        folder = Path(checkpoint or ".")
        is_lacking = checkpoint is not None and not (folder / name).exists()
        if is_lacking and checkpoints.read_manifest(folder) is None:
            logger.warning(
                "%s has no %s, as it was saved by another number of processes: dropout draws other "
                "numbers than in a run that was not stopped.",
                checkpoint,
                name,
            )
        with checkpoints.loading(checkpoint):
            super()._load_rng_state(checkpoint)
