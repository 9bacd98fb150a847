"""A checkpoint's statistics or weights, and a scheme -> a model (Wu et al. 2022, section 5).

The steps: read the statistics, find the roles of the model's parameters, match them with the
checkpoint's tensors, pool the moments of each group, draw every tensor, build the model. Parameters
that a scheme leaves out get the model's random init. Both kinds of numbers depend only on (seed,
name of the parameter); see build.py.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_synpre.errors import UsageError, as_integer, choose, in_message
from hf_synpre.initialization.build import TensorsOnDemand, build, skeleton
from hf_synpre.initialization.checkpoints import (
    find_config,
    find_weights,
    read_config,
)
from hf_synpre.initialization.draws import Draws
from hf_synpre.initialization.embedding_policy import (
    POLICIES,
    copy_token_tables,
    open_token_tables,
)
from hf_synpre.initialization.head_moments import match_heads
from hf_synpre.initialization.learning_free import OPTIONS, STARTS, check_options
from hf_synpre.initialization.load_report import LoadReport
from hf_synpre.initialization.loading import check_vocabulary, copy_buffers, finish_loading
from hf_synpre.initialization.matching import (
    Matching,
    SourceTensor,
    match_parameters,
    name_of_source,
    source_shapes,
)
from hf_synpre.initialization.parameters import Parameter
from hf_synpre.initialization.roles import read_parameters
from hf_synpre.initialization.schemes import SCHEMES, check_scheme
from hf_synpre.initialization.selection import check_number, check_rules, select_parameters
from hf_synpre.initialization.statistics import ParameterStatistics, open_spectra
from hf_synpre.initialization.stored_tensors import StoredTensors
from hf_synpre.initialization.unigrams import (
    UNIGRAM_SCHEME,
    Unigrams,
    log_unigrams,
    name_of_unigrams,
)
from hf_synpre.initialization.weight_files import refuse_adapter

# What happens where the model has another size than the checkpoint; see StatisticsInit.
RESIZE = ("fan_in", "depth", "none")

# Keywords of from_pretrained that say where and how the Hub is asked.
HUB_KEYWORDS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")

# Keywords of from_pretrained that say how a model is loaded, though a config has fields of the same
# names.
LOADING_KEYWORDS = ("dtype", "torch_dtype", "attn_implementation", "experts_implementation")


class StatisticsInit:
    """Makes models of one class from parameter statistics, or with weights of a checkpoint.

    It replaces `AutoModelForX` in calls of `from_pretrained` and `from_config`, with the same
    keywords.

    Args:
        model_class: an Auto class or model class of transformers.
        scheme: a name of SCHEMES: which parameters share their moments, and what fills them.
        seed: an integer in 0..2**63-1; decides every number.
        include: which parameters are filled: parts (keys of PARTS, as "attention"), ROLES, or
            patterns of names with *. Without it all are filled but token embeddings, which stay
            fresh unless it names them.
        exclude: which parameters are not filled, named in the same ways.
        embeddings: what becomes of token embeddings and of the output layer over tokens, one of
            POLICIES (embedding_policy.py): "fresh", or rows of the checkpoint's: "kept",
            "by_token", "mean". Without it they are fresh or filled as the scheme, `include` and
            `exclude` say.
        tokenizer: the model's, for embeddings "by_token", and to check that ids are the same.
        value: the constant of the scheme constant_pre_attn_ln.
        unigrams: the token frequencies of the scheme log_unigram_head: a file of text, which
            `tokenizer` cuts into tokens, the folder of a Unigram tokenizer, or a count for each id.
        scheme_options: numbers of schemes without a checkpoint, by name (OPTIONS of
            learning_free.py), as {"gamma": 0.75}.
        resize: what happens where the model has another size than the checkpoint. "fan_in" takes
            layers at the same relative depth and scales linear maps by the root of the ratio of
            their inputs; "depth" does not scale; "none" is an error. Schemes that copy weights
            never allow another size.
        roles: parameter name, or pattern with * -> one of ROLES, for models whose roles cannot be
            read from their modules.

    Raises:
        UsageError: an argument has a value that is not allowed.

    Every model that it makes has a `load_report`, a LoadReport: what came from the checkpoint.

    Examples:
        init = StatisticsInit(AutoModelForSeq2SeqLM, scheme="per_param_mean_sd", seed=0)
        model = init.from_pretrained("synpre/t5-mini-set")
        print(model.load_report)
        larger = init.from_config(T5Config(d_model=512), "synpre/t5-mini-set")
    """

    def __init__(
        self,
        model_class: type,
        *,
        scheme: str = "per_param_mean_sd",
        seed: int = 0,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        embeddings: str | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        value: float = 0.4,
        unigrams: Unigrams | None = None,
        scheme_options: Mapping[str, float] | None = None,
        resize: str = "fan_in",
        roles: Mapping[str, str] | None = None,
    ):
        seed_as_integer = as_integer(seed)
        if seed_as_integer is None or not 0 <= seed_as_integer < 2**63:
            raise UsageError(f"seed is {in_message(seed)}; give an integer in 0..2**63-1.")

        if not hasattr(model_class, "from_config") and not hasattr(model_class, "_from_config"):
            raise UsageError(
                f"StatisticsInit was given {model_class!r}; give a model class of transformers, "
                "such as AutoModelForCausalLM, and the checkpoint to from_pretrained."
            )
        self.model_class = model_class
        self.scheme_name = check_scheme(scheme)
        self.scheme = SCHEMES[scheme]
        self.seed = seed_as_integer
        self.include = None
        if include is not None:
            self.include = check_rules("include", include)
        self.exclude = check_rules("exclude", exclude or ())
        self.embeddings = embeddings
        if embeddings is not None:
            choose("embedding policy", embeddings, POLICIES)
        if embeddings not in (None, "fresh") and not self.scheme.needs_checkpoint:
            raise UsageError(
                f"embeddings is '{embeddings}', and scheme {scheme} reads no checkpoint; give "
                "embeddings 'fresh', or another scheme."
            )
        self.tokenizer = tokenizer
        self.value = check_number("value", value)
        self.unigrams = self.read_unigrams(unigrams)
        self.unigrams_source = unigrams
        self.scheme_options = check_options(scheme, scheme_options)
        self.resize = choose("resize", resize, RESIZE)
        self.roles = roles

    def __repr__(self) -> str:
        """Return the class and the arguments that differ from the defaults."""
        text = f"StatisticsInit({self.model_class.__name__}, scheme='{self.scheme_name}'"
        text += f", seed={self.seed}"
        if self.include is not None:
            text += f", include={list(self.include)}"
        if self.exclude:
            text += f", exclude={list(self.exclude)}"
        if self.embeddings is not None:
            text += f", embeddings='{self.embeddings}'"
        if self.scheme.fill == "constant":
            text += f", value={self.value}"
        if self.unigrams is not None:
            text += f", unigrams={name_of_unigrams(self.unigrams_source)}"
        if self.scheme_options != OPTIONS.get(self.scheme_name, {}):
            text += f", scheme_options={self.scheme_options}"
        if self.resize != RESIZE[0]:
            text += f", resize='{self.resize}'"
        return text + ")"

    def read_unigrams(self, unigrams: Unigrams | None) -> torch.Tensor | None:
        """Return what the scheme log_unigram_head reads, None for the others.

        Raises UsageError where it is missing, or given to another scheme.
        """
        is_read = self.scheme_name == UNIGRAM_SCHEME
        if unigrams is None and is_read:
            raise UsageError(
                "Scheme log_unigram_head reads token frequencies; give unigrams (--unigrams): a "
                "file of text, or the folder of a Unigram tokenizer."
            )
        if unigrams is None:
            return None
        if not is_read:
            raise UsageError(
                f"unigrams were given, and scheme {self.scheme_name} reads none; leave them out, "
                f"or give scheme {UNIGRAM_SCHEME}."
            )
        return log_unigrams(unigrams, self.tokenizer)

    def from_pretrained(
        self,
        pretrained_model_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | str | Path | None = None,
        **kwargs: Any,
    ) -> PreTrainedModel | tuple[PreTrainedModel, dict[str, Any]]:
        """Make a model with the architecture of a checkpoint from its statistics.

        Where the checkpoint has a statistics file, only it and the config are downloaded.

        Args:
            pretrained_model_name_or_path: the checkpoint: a folder or a Hub id.
            config: another config for the model, or the folder or Hub id of one.
            **kwargs: keywords of transformers' from_pretrained: dtype, device_map, revision, token,
                fields of the config ...

        Returns:
            The model in eval mode; with output_loading_info=True also the loading info, in which
            missing_keys are the parameters with a fresh random init.

        Raises:
            UsageError: the checkpoint is missing or broken, does not fit the config, or lacks what
                the scheme needs.
            OSError: the Hub does not give the files.
        """
        if kwargs.pop("trust_remote_code", None):
            raise UsageError(
                "trust_remote_code=True was given; hf_synpre runs no remote code. "
                "Use a model of transformers."
            )
        name_or_path = pretrained_model_name_or_path
        hub_keywords = {name: kwargs.pop(name, None) for name in HUB_KEYWORDS}
        hub = {name: value for name, value in hub_keywords.items() if value is not None}

        # Read the config. With the checkpoint's config unchanged no parameter has another size.
        folder = find_config(name_or_path, **hub)
        refuse_adapter(folder)
        resize = self.resize
        if not isinstance(config, PreTrainedConfig):
            loading = {name: kwargs.pop(name) for name in LOADING_KEYWORDS if name in kwargs}
            config_folder = folder if config is None else find_config(config, **hub)
            model_config, other_keywords = read_config(config_folder, kwargs)
            if config is None and other_keywords.keys() == kwargs.keys():
                resize = "none"
            config = model_config
            kwargs = other_keywords | loading

        # Read the statistics, or open the weights.
        source = self.read_source(name_or_path, folder, hub)

        # Make the model, and load it as transformers would: dtype, device, attention ...
        model = self.make_model(config, source, resize, name_or_path, hub)
        return finish_loading(model, config, folder, kwargs)

    def from_config(
        self,
        config: PreTrainedConfig,
        statistics: ParameterStatistics | str | Path | None = None,
        **kwargs: Any,
    ) -> PreTrainedModel:
        """Make a model of a config from statistics.

        Args:
            config: the config of the model, of the checkpoint's size or another.
            statistics: the statistics, or a checkpoint's folder or Hub id. The scheme
                constant_pre_attn_ln takes none; schemes that copy weights take a folder or Hub id.
            **kwargs: keywords of transformers' from_config: dtype, attn_implementation.

        Returns:
            The model in training mode.

        Raises:
            UsageError: the scheme needs something else, or the checkpoint lacks a parameter or does
                not fit.
            OSError: the Hub does not give the files.
        """
        if not isinstance(config, PreTrainedConfig):
            raise UsageError(
                f"config is {config!r}; give a config of transformers, or the checkpoint to "
                "from_pretrained."
            )
        source: ParameterStatistics | StoredTensors | None = None
        if isinstance(statistics, ParameterStatistics):
            source = statistics
        elif isinstance(statistics, str | Path):
            source = self.read_source(statistics)
        elif statistics is not None:
            raise UsageError(
                f"statistics is {statistics!r}; give a ParameterStatistics, or a checkpoint's "
                "folder or Hub id."
            )

        model = self.make_model(config, source, self.resize, statistics)
        if kwargs or config.dtype not in (None, torch.float32):
            model = finish_loading(model, config, None, kwargs).train()
        return model

    def groups(self, config: PreTrainedConfig) -> dict[str, list[str]]:
        """Return name of a group -> names of the parameters in it, which share their moments.

        Args:
            config: the config of a model; only its parameters' names and roles are read.
        """
        parameters = read_parameters(skeleton(self.model_class, config), self.roles)
        groups: dict[str, list[str]] = defaultdict(list)
        for parameter in self.select(parameters):
            groups[str(self.scheme.group(parameter))].append(parameter.name)
        return dict(groups)

    def read_source(
        self,
        name_or_path: str | Path,
        folder: Path | None = None,
        hub: Mapping[str, Any] | None = None,
    ) -> ParameterStatistics | StoredTensors | None:
        """Return what the scheme needs of a checkpoint: its statistics, its weights, or nothing.

        Args:
            name_or_path: the checkpoint's folder or Hub id.
            folder: the local folder of its config, as find_config returns it; None if that was not
                called.
            hub: where and how the Hub is asked: revision, token ...
        """
        hub = hub or {}
        if not self.scheme.needs_checkpoint:
            return None
        if self.scheme.reads_weights:
            return StoredTensors.in_folder(find_weights(name_or_path, **hub))
        if self.scheme.fill == "spectral":
            return open_spectra(name_or_path, hub)
        absolute = self.scheme.fill == "generalized_gaussian"
        if folder is None:
            return ParameterStatistics.from_pretrained(name_or_path, absolute=absolute, **hub)
        return ParameterStatistics.of_checkpoint(name_or_path, folder, absolute=absolute, **hub)

    def make_model(
        self,
        config: PreTrainedConfig,
        source: ParameterStatistics | StoredTensors | None,
        resize: str,
        checkpoint: ParameterStatistics | str | Path | None = None,
        hub: Mapping[str, Any] | None = None,
    ) -> PreTrainedModel:
        """Make a float32 model on the CPU, with its `load_report`.

        Args:
            config: the config of the model.
            source: what read_source returned.
            resize: one of RESIZE.
            checkpoint: what `source` was read of: a folder or Hub id, or statistics.
            hub: where and how the Hub is asked for more of it.
        """
        self.check_source(source)
        empty_model, parameters, selected = self.select_of(config)

        # A scheme without a checkpoint changes some of the model's random weights.
        if source is None or not self.scheme.needs_checkpoint:
            return self.start_model(config, parameters, selected)

        # Match each parameter with its source tensor.
        matching = Matching(empty_model, parameters, source_shapes(source))
        resize = "none" if self.scheme.copies else resize
        pairs = match_parameters(selected, matching, source, resize, checkpoint, hub)

        # Each tensor from the values of its source tensor, or from the moments of its group.
        if self.scheme.copies:
            check_vocabulary(pairs)
        heads = {}
        if self.scheme.fill == "per_head":
            heads = match_heads(empty_model, parameters, pairs, checkpoint, hub or {})
        draws = Draws(
            self.scheme, empty_model, source, dict_of(pairs), matching, resize, self.seed, heads
        )
        tensors = TensorsOnDemand(draws.pairs, draws.tensor)

        # Build the model. A copy of the whole model gets the checkpoint's buffers too.
        model = build(self.model_class, config, tensors, self.seed)
        is_whole = self.scheme.copies and not self.scheme.by_role and self.include is None
        if isinstance(source, StoredTensors) and is_whole:
            copy_buffers(model, source, matching)
        copied = None
        if self.embeddings not in (None, "fresh"):
            tables = open_token_tables(
                checkpoint, source, str(self.embeddings), self.tokenizer, hub or {}
            )
            copied = copy_token_tables(model, parameters, tables)

        # Only what a checkpoint may lack is missing here; see `match_parameters`.
        chosen = {parameter.name for parameter in selected}
        given = {*chosen, *(copied.names if copied else ())}
        resized = [each.name for each, stored in pairs if stored.shape != each.shape]
        report = LoadReport(
            name_of_source(source, checkpoint),
            loaded=tuple(tensors),
            missing=tuple(name for name in parameters if name in chosen and name not in tensors),
            left_over=tuple(matching.left_over),
            other_shape=tuple(resized),
            fresh=tuple(name for name in parameters if name not in given),
            tables=copied,
            drawn=self.scheme.fill != "weights",
        )
        model.load_report = report.log(logging.INFO)
        return model

    def start_model(
        self,
        config: PreTrainedConfig,
        parameters: Mapping[str, Parameter],
        selected: Iterable[Parameter],
    ) -> PreTrainedModel:
        """Make a model by a scheme that needs no checkpoint.

        Args:
            config: the config of the model.
            parameters: name -> parameter.
            selected: those that the scheme may fill.
        """
        model = build(self.model_class, config, {}, self.seed)
        options = {"value": self.value, "unigrams": self.unigrams, **self.scheme_options}
        names = [parameter.name for parameter in selected]
        with torch.no_grad():
            start = STARTS[self.scheme_name]
            filled = start(model, parameters, names, self.seed, options)
        if not filled:
            raise UsageError(
                f"Scheme {self.scheme_name} finds nothing to fill in {type(model).__name__}: "
                "docs/statistics.md says what it needs; give another scheme, or other parts."
            )
        report = LoadReport(
            f"Scheme {self.scheme_name}, without a checkpoint",
            loaded=(*filter(filled.__contains__, parameters), *sorted(filled - parameters.keys())),
            fresh=tuple(name for name in parameters if name not in filled),
            drawn=True,
        )
        model.load_report = report.log(logging.INFO)
        return model

    def check_fit(self, config: PreTrainedConfig, checkpoint: str | Path | None) -> None:
        """Raise UsageError where `from_config` would, because the checkpoint does not fit."""
        source = None if checkpoint is None else self.read_source(checkpoint)
        self.check_source(source)
        empty_model, parameters, selected = self.select_of(config)
        if source is not None:
            matching = Matching(empty_model, parameters, source_shapes(source))
            resize = "none" if self.scheme.copies else self.resize
            match_parameters(selected, matching, source, resize, checkpoint)

    def select_of(
        self, config: PreTrainedConfig
    ) -> tuple[PreTrainedModel, dict[str, Parameter], list[Parameter]]:
        """Return a model of a config without values, its parameters, and those the scheme fills.

        Raises UsageError where these are none.
        """
        empty_model = skeleton(self.model_class, config)
        parameters = read_parameters(empty_model, self.roles)
        selected = self.select(parameters)
        if not selected:
            raise UsageError(
                f"Scheme {self.scheme_name} under include and exclude fills no parameter of "
                f"{type(empty_model).__name__}; give another scheme, or roles=."
            )
        return empty_model, parameters, selected

    def select(self, parameters: Mapping[str, Parameter]) -> list[Parameter]:
        """Return the parameters that the scheme fills under include and exclude."""
        selected = select_parameters(
            parameters, self.scheme_name, self.scheme, self.include, self.exclude
        )
        if self.embeddings is None or not self.scheme.needs_checkpoint:
            return selected
        if self.include is not None and any(each.part == "embedding" for each in selected):
            raise UsageError(
                f"include names token embeddings, and embeddings is '{self.embeddings}'; give one "
                "of them, or exclude=['embedding']."
            )
        return [each for each in selected if each.part != "embedding"]

    def check_source(self, source: ParameterStatistics | StoredTensors | None) -> None:
        """Raise UsageError where the source is not what the scheme needs."""
        if self.scheme.needs_checkpoint and source is None:
            raise UsageError(
                f"Scheme {self.scheme_name} needs statistics; give them, or a checkpoint's folder "
                "or Hub id."
            )
        if self.scheme.reads_weights and isinstance(source, ParameterStatistics):
            raise UsageError(
                f"Scheme {self.scheme_name} reads weights; give a checkpoint's folder or Hub id, "
                "not statistics."
            )


def dict_of(
    pairs: Iterable[tuple[Parameter, SourceTensor]],
) -> dict[str, tuple[Parameter, SourceTensor]]:
    """Return the pairs by the name of the parameter."""
    return {parameter.name: (parameter, stored) for parameter, stored in pairs}
