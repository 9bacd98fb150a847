"""One cell: its task, its arm and its seed -> the content of its result file."""

import platform
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_synpre.config import stored_form, without_place
from hf_synpre.errors import TemporaryError, UsageError
from hf_synpre.experiments.arm import ArmSpec, lora_config
from hf_synpre.experiments.artifacts import Artifacts
from hf_synpre.experiments.learning_rates import choose_trial, rates_tried
from hf_synpre.experiments.spec import Cell, ExperimentSpec
from hf_synpre.finetuning import (
    FinetuningSpec,
    Head,
    PreparedTask,
    choose_head,
    find_head,
    finetune,
    save_model,
    validate,
)
from hf_synpre.initialization import (
    StatisticsInit,
    build,
    bundled_checkpoints,
    checkpoint_config,
    embedding_names,
    scale_layers,
)
from hf_synpre.initialization.embedding_policy import MATCHED, check_ids, matching_rows
from hf_synpre.models.families import is_decoder
from hf_synpre.models.pretrained_weights import take_weights
from hf_synpre.models.spec import TRIAL_VOCABULARY
from hf_synpre.tasks.imports import task_files
from hf_synpre.training.pretraining import accumulated_cost
from hf_synpre.training.run_folder import RESULT_FILE, read_result
from hf_synpre.versions import versions
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

# The version of the result files.
FORMAT = 1


def compute_cell(
    cell: Cell,
    spec: ExperimentSpec,
    artifacts: Artifacts,
    model_folder: Path | None = None,
    trials: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Fine-tune one arm on one task with one seed.

    Args:
        cell: which arm, task and seed. A trial of a learning rate is not tested.
        spec: the experiment.
        artifacts: its tokenized tasks and checkpoints; those that the cell needs are made if they
            do not exist.
        model_folder: where the fine-tuned model is saved; None to keep no model.
        trials: the contents of the files of the trials that choose the cell's learning rate.

    Returns:
        The content of the cell's file: the keys of `cell_header`, status "done", the test scores,
        the curve of validation, the metadata of the data, and the cost of each phase. That of a
        trial has the best evaluation in the place of test scores, None where the loss was not
        finite.
    """
    began = time.perf_counter()
    arm = spec.arms[cell.arm]

    # The learning rate and the scale of random weights, of this trial or the best one.
    rate, scale = cell.rate, cell.scale
    if trials:
        best = choose_trial(trials)
        rate, scale = best["learning_rate"], best.get("initial_scale")
    elif arm.initial_scales is not None and len(arm.initial_scales) == 1:
        (scale,) = arm.initial_scales

    # The task as token ids, and the model before fine-tuning.
    data = artifacts.prepared_task(cell.task)
    model, pretraining_cost = initial_model(cell, spec, artifacts, data)
    if scale is not None:
        scale_layers(model, scale)
    add_adapters(model, arm, cell.seed, data.head_for(model.config).adds_parameters)

    # The FLOPs of a pre-training run, if the arm gets them as further steps.
    extra_flops = 0.0
    if arm.match_flops_of:
        matched = artifacts.checkpoint(arm.match_flops_of, cell.task, spec.added_seed(cell))
        extra_flops = accumulated_cost(matched).get("flops", 0.0)

    # Fine-tune, and test what is no trial.
    recipe = spec.recipe(cell, rate)
    answer = find_head(data.task.head_name).answer
    fine_tune = finetune if cell.rate is None else validate
    try:
        scores = dict(
            fine_tune(
                model,
                data,
                recipe.without_unread(answer, is_decoder(model.config)),
                seed=cell.seed,
                output_dir=artifacts.folder / "finetuning" / cell.file_name,
                extra_flops=extra_flops,
            )
        )
    except FloatingPointError:
        if cell.rate is None:
            raise
        scores = {"best": None, "spent": None}  # this rate is not the one
    finetuning_cost = scores.pop("spent")
    if trials:
        scores["learning_rates"] = rates_tried(trials)
    if scale is not None:
        scores["initial_scale"] = scale
    result = {
        **cell_header(cell, spec, recipe),
        "status": "done",
        "error": None,
        **scores,
        "higher_is_better": data.head_for(model.config).higher_is_better(data.task),
        "data": data.metadata,
        "wall_s": round(time.perf_counter() - began, 1),
        "phases": {"pretraining": pretraining_cost, "finetuning": finetuning_cost},
        "device": device_name(model.device),
    }

    # What came from the arm's checkpoint.
    report = getattr(model, "load_report", None)
    if report is not None:
        result["weights"] = report.as_json()

    # The model is complete before its scores are written, which say that the cell is done.
    if model_folder is not None:
        save_model(model, data, recipe, result, model_folder)
    return result


def device_name(device: torch.device) -> str:
    """Return what a device is called in results: the name of a GPU, or cpu and its architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu {platform.machine()}"
    return device.type


def cell_header(
    cell: Cell, spec: ExperimentSpec, recipe: FinetuningSpec | None = None
) -> dict[str, Any]:
    """Return the keys of a result file that are known beforehand: name, config, versions.

    Args:
        cell: the cell.
        spec: the experiment.
        recipe: the cell's fine-tuning; without it that of the experiment, its grid included.
    """
    arm = spec.arms[cell.arm]
    recipe = recipe or spec.finetuning_spec(cell.task)
    names = asdict(cell)
    del names["scale"]
    if not cell.pretraining_seed:  # as before there were several
        del names["pretraining_seed"]
    rate = names.pop("rate")
    if rate is not None:
        names["learning_rate"] = rate
    return {
        "format": FORMAT,
        "experiment": spec.name,
        **names,
        "embeddings": arm.embeddings,
        "config": {
            "arm": stored_form(arm),
            "task": experiment_recipe(spec)["tasks"][cell.task],
            "model": stored_form(spec.model),
            "finetuning": stored_form(recipe),
        },
        "versions": versions(),
        "threads": torch.get_num_threads(),
    }


def experiment_recipe(spec: ExperimentSpec) -> dict[str, Any]:
    """Return an experiment's recipe: all that decides its results.

    Data folders, the number of jobs, whether models are kept, and whether a GPU computes are not
    in it.
    """
    recipe = without_place(stored_form(spec))
    recipe["jobs"] = 0
    recipe["data_dir"] = None
    del recipe["save_models"]
    # Where the files with tasks of one's own are does not matter, but what is in them does.
    del recipe["imports"]
    recipe["task_files"] = task_files_of_runs(spec)
    for task in recipe["tasks"].values():
        del task["data_dir"]
    return recipe


def task_files_of_runs(spec: ExperimentSpec) -> dict[str, dict[str, str]]:
    """Return run -> file name -> digest of the files that define the tasks of pre-training runs.

    Runs on tasks of hf_synpre, or on text, have none and are left out.
    """
    files_of_runs = {}
    for name, run in spec.pretraining.items():
        files = task_files(run.task)
        if files:
            files_of_runs[name] = files
    return files_of_runs


def initial_model(
    cell: Cell, spec: ExperimentSpec, artifacts: Artifacts, data: PreparedTask
) -> tuple[PreTrainedModel, dict[str, Any] | None]:
    """Return a cell's model before fine-tuning.

    Args:
        cell: its arm, task and seed.
        spec: the experiment.
        artifacts: the experiment's checkpoints.
        data: the cell's task as token ids.

    Returns:
        The model, and the cost of its pre-training: the content of the checkpoint's
        pretraining.json, if there is one, with the name of the checkpoint and `test_rows_seen`.
        The cost is None for a model that was not pre-trained.

    Raises:
        UsageError: the model cannot answer the task, or the checkpoint does not fit it.
    """
    arm = spec.arms[cell.arm]
    config = spec.model.config(as_vocabulary(data.tokenizer))
    head = data.head_for(config)
    check_untrained(cell.task, head, arm, spec.finetuning_spec(cell.task))
    config = head.configure(config, data)
    if arm.init == "random":
        return build(head.model_class, config, {}, cell.seed), None

    # The checkpoint is that of a run of this experiment, or a published one. A scheme with a
    # constant has none.
    is_own_run = arm.checkpoint in spec.pretraining
    source: str | Path | None = arm.checkpoint
    if arm.checkpoint is not None and is_own_run:
        source = artifacts.checkpoint(arm.checkpoint, cell.task, spec.added_seed(cell))

    # Token embeddings can be kept only if the ids mean the same tokens. Published checkpoints may
    # have more embeddings than their tokenizer has ids.
    if arm.embeddings == "kept" and source is not None:
        check_ids(source, data.tokenizer)
        if not is_own_run:
            config.vocab_size = checkpoint_config(source).vocab_size

    cost = None
    if source is not None:
        cost = {"name": arm.checkpoint, **pretraining_metadata(source)}
    if cost is not None and arm.checkpoint is not None and is_own_run:
        cost["test_rows_seen"] = artifacts.test_rows_seen(arm.checkpoint, cell.task)
    model = model_from_checkpoint(head, config, source, arm, cell.seed, data.tokenizer)
    return model, cost


def check_heads(spec: ExperimentSpec) -> None:
    """Raise UsageError where models of the architecture cannot answer a task, or not untrained."""
    config = spec.model.config(Vocabulary.plain(TRIAL_VOCABULARY))
    for cell in spec.cells():
        head = choose_head(spec.finetuning_task(cell.task), config)
        check_untrained(cell.task, head, spec.arms[cell.arm], spec.finetuning_spec(cell.task))


def check_starts(cells: Iterable[Cell], spec: ExperimentSpec) -> None:
    """Raise UsageError where the published checkpoint of an arm does not fit the model.

    It is known before the first cell is computed, and the arm is named.

    Args:
        cells: those that are to be computed.
        spec: the experiment. Checkpoints of its own runs fit, or are not there yet.
    """
    for name, task in dict.fromkeys((cell.arm, cell.task) for cell in cells):
        arm = spec.arms[name]
        if arm.init == "random" or arm.checkpoint in spec.pretraining:
            continue

        # A config of the cell's, but for the number of ids and labels.
        config = spec.model.config(Vocabulary.plain(TRIAL_VOCABULARY))
        head = choose_head(spec.finetuning_task(task), config)
        takes_body = arm.init == "weights" and head.adds_parameters
        if takes_body or arm.embeddings in MATCHED:
            continue  # what of these fits is known with the task's tokenizer
        try:
            if arm.embeddings == "kept" and arm.checkpoint is not None:
                config.vocab_size = checkpoint_config(arm.checkpoint).vocab_size
            start_factory(head, arm, seed=0).check_fit(config, arm.checkpoint)
        except (OSError, TemporaryError):
            continue  # it cannot be read now; its cell tries again
        except UsageError as error:
            raise UsageError(f"arm {name}: {error}") from error


def check_untrained(task: str, head: Head[Any, Any], arm: ArmSpec, recipe: FinetuningSpec) -> None:
    """Raise UsageError where a model would be tested whose random parameters nothing trains.

    An arm whose weights are all random or drawn is tested: it is what others are compared with.

    Args:
        task: the name of the task.
        head: the head that answers the task.
        arm: where the weights come from.
        recipe: the recipe of fine-tuning.
    """
    if recipe.training.get("max_steps") != 0 or arm.match_flops_of:
        return
    if head.adds_parameters:
        raise UsageError(
            f"max_steps is 0, and {task} is answered by the head {head.name}, whose layer no "
            "checkpoint has: it would be tested with random weights. Give max_steps >= 1."
        )
    if arm.init == "weights" and arm.embeddings == "fresh":
        raise UsageError(
            f"max_steps is 0, and {task} would be tested with fresh token embeddings, which are "
            "random; give embeddings kept with the checkpoint's tokenizer, or max_steps >= 1."
        )


def model_from_checkpoint(
    head: Head[Any, Any],
    config: PreTrainedConfig,
    source: str | Path | None,
    arm: ArmSpec,
    seed: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> PreTrainedModel:
    """Return a model with a checkpoint's weights, or weights drawn from its statistics.

    Args:
        head: the head that answers the task, and its class of models.
        config: the config of the model.
        source: the checkpoint; None for a scheme that needs none.
        arm: says what is taken from the checkpoint.
        seed: decides all weights that are drawn.
        tokenizer: that of the task, with which token embeddings may be matched.
    """
    # A head with parameters of its own takes no weights but the body's. Token embeddings may be
    # matched with those of another tokenizer.
    is_matched = arm.embeddings in MATCHED
    if arm.init == "weights" and (head.adds_parameters or is_matched):
        assert source is not None  # ArmSpec refuses an arm of weights without a checkpoint
        model = build(head.model_class, config, {}, seed)
        with_head = is_matched and not head.adds_parameters
        same_rows = matching_rows(source, tokenizer, arm.embeddings)
        take_weights(model, source, arm.embeddings, head=with_head, same_rows=same_rows)
        return model

    return start_factory(head, arm, seed, tokenizer).from_config(config, source)


def start_factory(
    head: Head[Any, Any],
    arm: ArmSpec,
    seed: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> StatisticsInit:
    """Return what makes the models of an arm.

    The arguments are those of `model_from_checkpoint`.
    """
    scheme = arm.scheme
    if arm.init == "weights":
        scheme = "weights" if arm.embeddings == "kept" else "body_weights"
    return StatisticsInit(
        head.model_class,
        scheme=scheme,
        seed=seed,
        value=arm.value,
        scheme_options=arm.scheme_options,
        resize=arm.resize,
        embeddings=arm.embeddings,
        tokenizer=tokenizer,
    )


def pretraining_metadata(source: str | Path) -> dict[str, Any]:
    """Return the pretraining.json of a checkpoint in a folder or bundled with the package.

    Return {} if it has none.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = bundled_checkpoints().get(str(source), Path())
    return dict(read_result(folder)) if (folder / RESULT_FILE).exists() else {}


def add_adapters(
    model: PreTrainedModel, arm: ArmSpec, seed: int, has_new_layer: bool = False
) -> None:
    """Put an arm's LoRA adapters into a model, in place.

    All other parameters are frozen, except token embeddings that are not kept whole, and a layer
    on top that no pre-trained model has.

    Args:
        model: the model; it stays as it is if the arm has no `lora`.
        arm: the fields of the adapters, and whether embeddings are fresh.
        seed: decides the weights of the adapters.
        has_new_layer: whether the parameters outside of the model's body are those of a new layer.
    """
    if arm.lora is None:
        return
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # peft sets what the layers need, and says so (https://github.com/huggingface/peft/issues/155).
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to")
        torch.manual_seed(seed)
        model.add_adapter(lora_config(arm.lora))

    fresh = set() if arm.embeddings == "kept" else set(embedding_names(model))
    body = f"{model.base_model_prefix}."
    for name, parameter in model.named_parameters():
        is_new = has_new_layer and not name.startswith(body)
        is_frozen_copy = "original_module" in name  # of a layer that peft saves whole
        if name in fresh or (is_new and not is_frozen_copy):
            parameter.requires_grad_(True)
