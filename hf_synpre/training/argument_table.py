"""What a run does with each training argument of transformers: obeys it, or refuses it by name.

Every field of transformers' Seq2SeqTrainingArguments stands in exactly one of `OBEYED`,
`SET_BY_A_RUN` and `REFUSED`, once for each kind of run; a test holds this. `NEEDS` says which of
the obeyed ones are read in the company of another argument only.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# The kinds of a run.
PRETRAINING = "pretraining"
FINETUNING = "finetuning"

# --- obeyed in every run --------------------------------------------------------------------------

OBEYED = {
    # How long a run is, and what a step trains on.
    *("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"),
    # The optimizer, its schedule and its loss.
    *("optim", "optim_args", "optim_target_modules", "learning_rate", "weight_decay"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor"),
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "neftune_noise_alpha"),
    *("metric_for_best_model", "greater_is_better"),
    # Precision, memory and speed.
    *("bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "tf32", "use_cpu"),
    *("activation_checkpointing", "activation_checkpointing_kwargs"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "torch_empty_cache_steps"),
    *("torch_compile", "torch_compile_backend", "torch_compile_mode", "full_determinism"),
    # Processes that load rows.
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
    # Several processes or nodes.
    *("ddp_backend", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_find_unused_parameters"),
    *("ddp_static_graph", "ddp_timeout", "fsdp", "fsdp_config", "log_on_each_node"),
    # Evaluations.
    *("per_device_eval_batch_size", "eval_accumulation_steps"),
    # Logs.
    *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"),
    *("include_num_input_tokens_seen", "log_level", "log_level_replica", "disable_tqdm"),
    *("report_to", "run_name", "project", "debug"),
    *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
}
# Obeyed in one kind of run only; `REFUSED_IN` says why not in the other.
OBEYED_IN = {
    PRETRAINING: {
        *("eval_steps", "eval_delay", "eval_on_start"),
        *("save_strategy", "save_steps", "save_total_limit", "save_on_each_node"),
        "resume_from_checkpoint",
    },
    FINETUNING: {"num_train_epochs"},
}

# --- set by the run itself: refused whatever their value is ---------------------------------------

SET_BY_A_RUN = {
    PRETRAINING: {
        *("output_dir", "seed", "eval_strategy"),
        *("train_sampling_strategy", "restore_callback_states_from_checkpoint"),
    },
    FINETUNING: {
        *("output_dir", "seed", "eval_strategy", "eval_steps", "save_strategy"),
        *("train_sampling_strategy",),
    },
}

# --- refused where they are not at their default --------------------------------------------------
# Each text ends the sentence "The training argument NAME ...": why, and what to do.

PUBLISHING = "is not kept with a run; publish with `synpre push`."
GENERATION = "is not read: text is generated in the test of a fine-tuning only; give "
OWN_METRICS = "would change what the run's own metrics are given; leave it out."
SCRIPTS = "is for scripts: a run always trains and evaluates; leave it out."
ORDER_OF_ROWS = "would change which rows a step has; leave it out."
NO_CHECKPOINTS = "is not read: a fine-tuning writes no checkpoints; leave it out."
EVALUATIONS = "is not read: `evaluations` says when a fine-tuning evaluates; leave it out."

REFUSED = {
    **dict.fromkeys(("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id"), PUBLISHING),
    **dict.fromkeys(("hub_strategy", "hub_always_push", "hub_revision"), PUBLISHING),
    # Generation.
    "predict_with_generate": "is not read: fine-tuning generates in its test by itself; leave it "
    "out.",
    "generation_max_length": GENERATION + "max_new_tokens there.",
    "generation_num_beams": GENERATION + "num_beams there.",
    "generation_config": GENERATION + "num_beams and max_new_tokens there.",
    # Metrics.
    "prediction_loss_only": "would leave nothing to judge a run by; leave it out.",
    **dict.fromkeys(("include_for_metrics", "batch_eval_metrics"), OWN_METRICS),
    **dict.fromkeys(("eval_do_concat_batches", "eval_use_gather_object"), OWN_METRICS),
    "skip_memory_metrics": "would mix memory into the run's curve; leave it out.",
    "label_names": "is not read: the labels of all rows are named labels; leave it out.",
    # Rows.
    "remove_unused_columns": "would take columns away that the rows need; leave it out.",
    "dataloader_drop_last": "would leave rows out of training and evaluation; leave it out.",
    "dataloader_in_order": "is not read: rows come in one order, so that a run can be repeated; "
    "leave it out.",
    "data_seed": "is not read: the seed of the run decides its rows too; give seed.",
    "length_column_name": "is not read: the lengths of rows are known; leave it out.",
    "sortish_sampler": "is not read by transformers any more; leave it out.",
    "accelerator_config": ORDER_OF_ROWS,
    "parallelism_config": "is not supported; FSDP is (examples/configs/fsdp.yaml).",
    "auto_find_batch_size": "would change the rows of a step in the middle of a run; give "
    "tokens_per_batch, which computes the same steps in smaller parts.",
    # The loss.
    "average_tokens_across_devices": "cannot be turned off: the loss is the mean over the target "
    "tokens of the whole step; leave it out.",
    "use_liger_kernel": "cannot apply: the run's own loss needs no logits of a whole batch either; "
    "leave it out.",
    "liger_kernel_config": "cannot apply, because use_liger_kernel cannot; leave it out.",
    "use_cache": "is not read: training keeps no keys and values; leave it out.",
    # Checkpoints.
    "load_best_model_at_end": "is not read: pre-training keeps the last weights, fine-tuning those "
    "of its best evaluation; leave it out.",
    "save_only_model": "would write checkpoints from which no run can go on; leave it out.",
    "enable_jit_checkpoint": "would end a run early as if it were finished; leave it out, a killed "
    "run goes on from its last checkpoint.",
    "ignore_data_skip": "would repeat rows when a run goes on; leave it out.",
    # Engines and launchers.
    "deepspeed": "is not supported; FSDP is (examples/configs/fsdp.yaml).",
    "local_rank": "is not read: a launcher (torchrun, accelerate launch) sets it in the "
    "environment; leave it out.",
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), SCRIPTS),
}
REFUSED_IN = {
    PRETRAINING: {
        "num_train_epochs": "cannot apply; give max_steps, because the rows of a pre-training have "
        "no end.",
    },
    FINETUNING: {
        **dict.fromkeys(("save_steps", "save_total_limit", "save_on_each_node"), NO_CHECKPOINTS),
        "resume_from_checkpoint": NO_CHECKPOINTS,
        "restore_callback_states_from_checkpoint": NO_CHECKPOINTS,
        **dict.fromkeys(("eval_delay", "eval_on_start"), EVALUATIONS),
    },
}

# --- read in the company of another argument only -------------------------------------------------

# Optimizers that read the betas of Adam, that read its epsilon, and that read optim_args.
HAVE_BETAS = re.compile(r"^(paged_)?(adamw|ademamix|lion|apollo|stable_adamw|schedule_free_r?adam)")
HAVE_EPSILON = re.compile(r"^(paged_)?(adamw|ademamix|apollo|stable_adamw|schedule_free_r?adam)")
HAVE_OPTIONS = re.compile(
    r"anyprecision|ademamix|sgd|adagrad|rmsprop|galore|apollo|grok|torch_[48]bit|schedule|stable"
)
HAVE_TARGET_MODULES = re.compile("galore|apollo")
# Schedules without a warm-up, without options, and those that watch a metric; rsqrt and electra are
# of this package.
WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy", "rsqrt")
WITHOUT_OPTIONS = ("constant", "constant_with_warmup", "rsqrt", "electra")
WATCH_A_METRIC = ("reduce_lr_on_plateau", "greedy")


@dataclass(frozen=True)
class Need:
    """Which other argument an argument needs to be read at all."""

    is_met: Callable[[Mapping[str, Any]], bool]  # takes all arguments that a run was given
    remedy: str  # what to do, for messages
    of: str = ""  # the choice that decides, if one does: messages show it


def value_of(arguments: Mapping[str, Any], name: str) -> str:
    """Return a named choice, as an optimizer, as a plain word. YAML reads the word no as false."""
    value = arguments.get(name) or ""
    if name.endswith("_strategy") and arguments.get(name) is False:
        value = "no"
    return str(getattr(value, "value", value))


def optimizer_matches(pattern: re.Pattern[str]) -> Callable[[Mapping[str, Any]], bool]:
    """Return whether the optimizer's name matches, as a function of the arguments."""
    return lambda arguments: pattern.search(value_of(arguments, "optim")) is not None


def is_given(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return whether one of some arguments is given and not off, as a function of the arguments."""
    return lambda arguments: any(arguments.get(name) for name in names)


def schedule_is(*types: str, but: bool = False) -> Callable[[Mapping[str, Any]], bool]:
    """Return whether lr_scheduler_type is one of some (`but`: is none of them), as a function."""
    return lambda arguments: (value_of(arguments, "lr_scheduler_type") in types) != but


ADAM = "give optim adamw_torch or another Adam"
CHECKPOINTING = is_given("activation_checkpointing", "gradient_checkpointing")
WORKERS = Need(is_given("dataloader_num_workers"), "give dataloader_num_workers too")
CHECKPOINTS = Need(
    lambda arguments: value_of(arguments, "save_strategy") in ("", "steps"),
    "give save_strategy steps",
    "save_strategy",
)
REPORTS = Need(is_given("report_to"), "give report_to too")
BETAS = Need(optimizer_matches(HAVE_BETAS), ADAM, "optim")
WATCHED = Need(
    schedule_is(*WATCH_A_METRIC),
    "give lr_scheduler_type reduce_lr_on_plateau",
    "lr_scheduler_type",
)

NEEDS = {
    "adam_beta1": BETAS,
    "adam_beta2": BETAS,
    "adam_epsilon": Need(optimizer_matches(HAVE_EPSILON), ADAM, "optim"),
    "optim_args": Need(
        optimizer_matches(HAVE_OPTIONS), "give an optimizer that has options, as optim sgd", "optim"
    ),
    "optim_target_modules": Need(
        optimizer_matches(HAVE_TARGET_MODULES), "give an optim of GaLore or APOLLO", "optim"
    ),
    "warmup_steps": Need(
        schedule_is(*WITHOUT_WARMUP, but=True),
        "give lr_scheduler_type constant_with_warmup or linear",
        "lr_scheduler_type",
    ),
    "lr_scheduler_kwargs": Need(
        schedule_is(*WITHOUT_OPTIONS, but=True),
        "give a lr_scheduler_type that has options",
        "lr_scheduler_type",
    ),
    "metric_for_best_model": WATCHED,
    "greater_is_better": WATCHED,
    "activation_checkpointing_kwargs": Need(CHECKPOINTING, "give activation_checkpointing too"),
    "gradient_checkpointing_kwargs": Need(CHECKPOINTING, "give gradient_checkpointing too"),
    "fsdp_config": Need(is_given("fsdp"), "give fsdp too"),
    "dataloader_persistent_workers": WORKERS,
    "dataloader_prefetch_factor": WORKERS,
    "dataloader_multiprocessing_context": WORKERS,
    "logging_steps": Need(
        lambda arguments: value_of(arguments, "logging_strategy") in ("", "steps"),
        "give logging_strategy steps",
        "logging_strategy",
    ),
    **dict.fromkeys(("save_steps", "save_total_limit", "save_on_each_node"), CHECKPOINTS),
    "run_name": REPORTS,
    "project": REPORTS,
    "trackio_space_id": REPORTS,
    "trackio_bucket_id": REPORTS,
    "trackio_static_space_id": REPORTS,
}
