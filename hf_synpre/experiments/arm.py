"""An arm of an experiment: where the weights come from before fine-tuning."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_synpre.config import check_read, option
from hf_synpre.errors import UsageError, as_integer, choose
from hf_synpre.finetuning import check_learning_rates
from hf_synpre.initialization import RESIZE, SCHEMES, Scheme
from hf_synpre.initialization.embedding_policy import MATCHED, POLICIES
from hf_synpre.initialization.learning_free import OPTIONS, check_options
from hf_synpre.initialization.schemes import check_scheme
from hf_synpre.initialization.unigrams import UNIGRAM_SCHEME

if TYPE_CHECKING:
    from peft import LoraConfig

# What an arm has so that it reads an option: `read_with` of the fields of ArmSpec.
RANDOM = "init random"
STATISTICS = "init statistics"
DRAWN = "init statistics and a scheme that draws from a checkpoint's statistics"
CONSTANT = "scheme constant_pre_attn_ln"
OPTIONED = "a scheme that has options (gamma, mimetic)"
OLD_EMBEDDINGS = "a checkpoint or lora"


@dataclass
class ArmSpec:
    """An arm: where the weights come from before fine-tuning.

    They are random, or those of a checkpoint, or drawn from the statistics of a checkpoint.

    Raises:
        UsageError: a value that is not allowed, or one that an arm with this init does not read.
    """

    init: str = option("Where weights come from: random, weights or statistics.", "random")
    checkpoint: str | None = option(
        "The checkpoint of weights and statistics: a folder or a Hub id; in an experiment also the "
        "name of a pre-training run.",
        None,
    )
    scheme: str = option(
        "The scheme of init statistics; some copy parts of the weights (docs/statistics.md).",
        "per_param_mean_sd",
        read_with=STATISTICS,
    )
    embeddings: str = option(
        "Token embeddings: fresh (drawn anew), kept (those of the checkpoint, whose ids must be "
        "the same), by_token (of tokens that its tokenizer has too) or mean (by number, further "
        "ones their mean).",
        "fresh",
        read_with=OLD_EMBEDDINGS,
    )
    value: float = option(
        "The constant of scheme constant_pre_attn_ln, which needs no checkpoint.",
        0.4,
        read_with=CONSTANT,
    )
    scheme_options: dict[str, Any] | None = option(
        "Numbers of the schemes gamma and mimetic, as gamma=0.75 (docs/statistics.md).",
        None,
        read_with=OPTIONED,
        is_added=True,
    )
    resize: str = option(
        "Statistics of a model of another size: fan_in (layers by relative depth, linear maps "
        "scaled by the root of the fan-in ratio), depth (no scaling) or none (the same layers).",
        "fan_in",
        read_with=DRAWN,
    )
    match_flops_of: str | None = option(
        "A pre-training run whose FLOPs a random start gets as further fine-tuning steps.",
        None,
        former="compute_of",
        read_with=RANDOM,
    )
    finetuning_budget: float = option(
        "How many times as many steps (or epochs) of fine-tuning as the recipe has this arm gets, "
        "with a schedule of that length. Arms of one start with budgets such as 1, 2 and 4 make a "
        "line of score over compute.",
        1.0,
        is_added=True,
    )
    lora: dict[str, Any] | None = option(
        "Fields of peft's LoraConfig, as r=8,lora_alpha=16. Only adapters are trained, and what is "
        "fresh: token embeddings, and the layer on top of labelled tasks.",
        None,
    )
    tasks: list[str] | None = option("The tasks on which the arm is tried; all without it.", None)
    learning_rates: list[float] | None = option(
        "The learning rates of this arm, instead of those of finetuning: one of them is chosen on "
        "the validation rows of each task. A single one is taken as it is.",
        None,
        is_added=True,
    )
    pretraining_seeds: list[int] | None = option(
        "The pre-training seeds of this arm, instead of the experiment's.", None, is_added=True
    )
    initial_scales: list[float] | None = option(
        "Factors of the random weights of the layers; embeddings, heads, norms and biases stay. "
        "With several, the best pair of factor and learning rate is chosen on the validation rows "
        "of each task. A single one is taken as it is.",
        None,
        read_with=RANDOM,
        is_added=True,
    )

    def __post_init__(self) -> None:
        choose("init of an arm", self.init, ("random", "weights", "statistics"))
        choose("embedding policy", self.embeddings, POLICIES)
        check_scheme(self.scheme)
        choose("resize", self.resize, RESIZE)

        # A checkpoint must be given exactly where it is read.
        scheme = SCHEMES[self.scheme] if self.init == "statistics" else None
        needs_checkpoint = self.init == "weights"
        if scheme is not None:
            needs_checkpoint = scheme.needs_checkpoint
        if needs_checkpoint and self.checkpoint is None:
            raise UsageError(
                f"init {self.init} was given without a checkpoint; give one (a folder, a Hub id, "
                "or in an experiment a pre-training run)."
            )
        if self.checkpoint is not None and self.init == "random":
            raise UsageError(
                f"The checkpoint {self.checkpoint} was given with init random, which reads none; "
                "give init weights (its weights) or statistics (weights drawn from their means and "
                "deviations), or leave the checkpoint out."
            )
        if self.checkpoint is not None and not needs_checkpoint:
            raise UsageError(
                f"The checkpoint {self.checkpoint} was given with scheme {self.scheme}, which "
                "reads none; leave one of them out."
            )
        self._check_options(scheme)
        if scheme is not None:
            check_options(self.scheme, self.scheme_options)
        if scheme is not None and self.scheme == UNIGRAM_SCHEME:
            raise UsageError(
                f"An arm has no token frequencies for scheme {UNIGRAM_SCHEME}; make the model with "
                "`synpre init`, and give its folder as the checkpoint of an arm with init weights."
            )

        # With a scheme, token embeddings are those of a checkpoint that it reads.
        allowed = ["fresh", "kept", *MATCHED]
        if scheme is not None and scheme.embeddings:
            allowed.remove("fresh")
        elif scheme is not None and not scheme.needs_checkpoint:
            allowed = ["fresh"]
        if self.embeddings not in allowed:
            raise UsageError(
                f"An arm with scheme {self.scheme} has embeddings {self.embeddings}; give "
                f"{' or '.join(allowed)}."
            )
        if self.lora is not None:
            lora_config(self.lora)
        if self.learning_rates is not None:
            check_learning_rates(self.learning_rates, "An arm")
        if self.initial_scales is not None:
            check_scales(self.initial_scales)
        if not 0 < self.finetuning_budget < math.inf:
            raise UsageError(
                f"An arm has finetuning_budget {self.finetuning_budget}; give a number above 0."
            )
        if self.tasks == []:
            raise UsageError("An arm has tasks []; name at least one, or leave it out for all.")

    def _check_options(self, scheme: Scheme | None) -> None:
        """Raise UsageError on an option that this arm does not read."""
        has = {
            RANDOM: self.init == "random",
            STATISTICS: scheme is not None,
            DRAWN: scheme is not None and scheme.needs_checkpoint and not scheme.copies,
            CONSTANT: scheme is not None and scheme.fill == "constant",
            OPTIONED: scheme is not None and self.scheme in OPTIONS,
            OLD_EMBEDDINGS: self.init != "random" or self.lora is not None,
        }
        described = f"an arm with init {self.init}"
        if scheme is not None:
            described += f" and scheme {self.scheme}"
        check_read(self, has, what=described)

    @property
    def needed_checkpoint(self) -> str | None:
        """The checkpoint that must exist before the arm's cells can start, if any."""
        return self.checkpoint or self.match_flops_of


def check_scales(scales: list[float]) -> None:
    """Raise UsageError where the factors of random weights cannot be used."""
    are_positive = all(0 < scale < math.inf for scale in scales)
    if not scales or not are_positive or len(set(scales)) < len(scales):
        raise UsageError(
            f"An arm has initial_scales {scales}; give distinct factors above 0, as [0.5, 1, 2]."
        )


def lora_config(fields: dict[str, Any]) -> "LoraConfig":
    """Return peft's LoraConfig with these fields.

    Raises UsageError if peft is not installed, or refuses a field.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise UsageError(
            "An arm has lora, and peft is not installed; `pip install peft`."
        ) from None

    for name, value in fields.items():
        choose("field of lora", name, LoraConfig.__dataclass_fields__)
        if name in ("r", "lora_alpha") and not (as_integer(value) or 0) > 0:
            raise UsageError(f"The field {name} of lora is {value!r}; give an integer >= 1.")
    try:
        return LoraConfig(**fields)
    except (TypeError, ValueError) as error:
        raise UsageError(f"lora {fields} was refused: {' '.join(str(error).split())}") from error
