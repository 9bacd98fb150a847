"""Identities of the schemes on every architecture; the size of cards, and memory of a model.

    python benchmarks/starts.py --memory [--only llama gpt2 ...] [--seconds 150]
        -> results/starts.json (some minutes of one core, 6 GB); goes on where it was stopped

"identities": each architecture of transformers that AutoModel builds from small fields is started
by symmetric_qk and mimetic without a checkpoint, and its random matrices are made again by
permuted_rows, row_column_norms and spectral. The largest relative error of each identity over all
architectures stands beside the number of architectures that it was measured on; "no_heads" are
those without an attention block whose heads can be told apart.
"card": bytes of parameter_statistics.json of a Llama of 7 B parameters, alone, with the mean
absolute deviations, and with the quantiles of singular values too; the numbers are random ones.
"memory": a Llama of 1.1 B parameters is made from the card of a small one in a process of its own;
peak is what it adds to the resident memory, beside the bytes of its parameters.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from architectures import small_fields
from parameter_statistics import peak_mb
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from hf_synpre.errors import UsageError
from hf_synpre.files import read_json, write_json
from hf_synpre.initialization import (
    Moments,
    ParameterStatistics,
    StatisticsInit,
    build,
    read_parameters,
    skeleton,
)
from hf_synpre.initialization.attention_blocks import read_attention_blocks
from hf_synpre.initialization.learning_free import OPTIONS, STARTS
from hf_synpre.initialization.parameters import Parameter
from hf_synpre.initialization.spectra import (
    all_singular_values,
    draw_with_values,
    measure_spectrum,
)
from hf_synpre.initialization.value_fills import VALUE_FILLS

RESULT = Path(__file__).parent / "results" / "starts.json"
MOST_PARAMETERS = 100_000_000  # of a small model; others are left out
MOST_MATRICES = 12  # of an architecture whose matrices are made again
MOST_ELEMENTS = 2**16  # of such a matrix
SEVEN_B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
ONE_B = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
}
IDENTITY_ALONE = OPTIONS["mimetic"] | {"query_key_noise": 0.0, "value_output_noise": 0.0}


# --- identities -----------------------------------------------------------------------------------


def errors_of(model_type: str) -> dict[str, float] | str:
    """Return the largest relative error of each identity, or why the architecture is left out."""
    try:
        config = CONFIG_MAPPING[model_type]()
        for name, value in small_fields(config).items():
            set_fields(config, name, value)
        size = sum(p.numel() for p in skeleton(AutoModel, config).parameters())
    except Exception as error:  # whatever an architecture raises on small fields
        return f"not built: {type(error).__name__}"
    if size > MOST_PARAMETERS:
        return f"too large: {size:,} parameters"
    try:
        model = build(AutoModel, config, {}, 0)
    except Exception as error:
        return f"not built: {type(error).__name__}"

    parameters = read_parameters(model)
    errors = value_errors(model, parameters)
    with torch.no_grad():
        errors |= head_errors(model, parameters)
    return errors


def set_fields(config: Any, name: str, value: Any) -> None:
    """Set a field of a config, or the fields of a part of it."""
    if isinstance(value, dict):
        for inner, inner_value in value.items():
            set_fields(getattr(config, name), inner, inner_value)
    else:
        setattr(config, name, value)


def value_errors(model: torch.nn.Module, parameters: dict[str, Any]) -> dict[str, float]:
    """Return the errors of the schemes that make a matrix from the values of another."""
    errors = dict.fromkeys(("permuted_rows", "row_column_norms", "spectral"), 0.0)
    taken = 0
    for name, parameter in parameters.items():
        # Take the first small matrices; embeddings stay as the model draws them.
        tensor = model.get_parameter(name).detach().float()
        is_small = tensor.dim() > 1 and tensor.numel() <= MOST_ELEMENTS and tensor.any()
        if parameter.part == "embedding" or parameter.fixed or not is_small:
            continue
        taken += 1
        if taken > MOST_MATRICES:
            break

        # Compare what each scheme keeps: the values of rows, the norms, the singular values.
        generator = torch.Generator().manual_seed(0)
        maps = parameter.as_maps(tensor).double()
        for scheme in errors:
            made = remade(scheme, parameter, tensor, generator)
            other = parameter.as_maps(made).double()
            if scheme == "permuted_rows":
                pairs = [(other.sort(-1).values, maps.sort(-1).values)]
            elif scheme == "spectral":
                pairs = [(torch.linalg.svdvals(other), torch.linalg.svdvals(maps))]
            else:
                pairs = [(other.norm(dim=axis), maps.norm(dim=axis)) for axis in (-1, -2)]

            for found, expected in pairs:
                error = ((found - expected).abs().max() / expected.abs().max()).item()
                errors[scheme] = max(errors[scheme], error)
    return errors if taken else {}


def remade(
    scheme: str, parameter: Parameter, tensor: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return what a scheme makes of a tensor of the same size."""
    if scheme != "spectral":
        return VALUE_FILLS[scheme](parameter, tensor, generator)
    sources = [all_singular_values(matrix) for matrix in parameter.as_maps(tensor)]
    mean_square = tensor.double().square().mean().item()
    return draw_with_values(parameter, sources, mean_square, generator)


def head_errors(model: torch.nn.Module, parameters: dict[str, Any]) -> dict[str, float]:
    """Return the errors of the schemes that draw queries, keys, values and outputs by head."""
    blocks = [each for each in read_attention_blocks(model, parameters) if not each.is_cross]
    if not blocks:
        return {}
    errors = {}
    for scheme, options in (("symmetric_qk", {}), ("mimetic", IDENTITY_ALONE)):
        if not STARTS[scheme](model, parameters, parameters.keys(), 0, options):
            continue

        # The worst block counts.
        errors[scheme] = 0.0
        errors_of_block = symmetry_errors if scheme == "symmetric_qk" else product_errors
        for block in blocks:
            weights = {
                role: view(model.get_parameter(view.parameter.name)).double()
                for role, view in block.weights.items()
            }
            found = errors_of_block(weights, block.key_value_heads, block.group)
            errors[scheme] = max(errors[scheme], found)
    return errors


def symmetry_errors(weights: dict[str, torch.Tensor], key_heads: int, group: int) -> float:
    """Return how far keys are from the mean of their queries."""
    means = weights["query"].unflatten(0, (key_heads, group)).mean(1)
    return ((weights["key"] - means).abs().max() / means.abs().max()).item()


def product_errors(weights: dict[str, torch.Tensor], key_heads: int, group: int) -> float:
    """Return how far the products of an identity without noise are from a projection times it."""
    keys = weights["key"].repeat_interleave(group, 0)
    scores = weights["query"].transpose(1, 2) @ keys  # [heads, inputs, inputs]
    error = (scores @ scores - 0.7 * scores).abs().max().item()
    values = weights["value"].repeat_interleave(group, 0)
    output = (weights["output"] @ values).sum(0)  # [outputs, inputs]
    if output.shape[0] == output.shape[1]:
        error = max(error, (output @ output + 0.4 * output).abs().max().item())
    return error


def measure(
    names: list[str], seconds: float, found: dict[str, Any], keep: Callable[[], None]
) -> None:
    """Measure architectures that were not measured before.

    Args:
        names: the architectures.
        seconds: after so long no further one is begun.
        found: name -> errors, or why it was left out; it gets the new ones.
        keep: called after each of them.
    """
    began = time.perf_counter()
    for name in names:
        if name in found or time.perf_counter() - began > seconds:
            continue
        try:
            errors = errors_of(name)
        except UsageError as error:
            errors = f"refused: {' '.join(str(error).split())[:120]}"
        if not isinstance(errors, str):
            errors = {scheme: float(f"{error:.1e}") for scheme, error in errors.items()}
        found[name] = errors
        keep()
        gc.collect()


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Return the largest error of each identity over architectures, and how many there are."""
    errors = {name: each for name, each in found.items() if isinstance(each, dict)}
    result: dict[str, Any] = {"architectures": len(errors)}
    for scheme in ("permuted_rows", "row_column_norms", "spectral", "symmetric_qk", "mimetic"):
        measured = {name: each[scheme] for name, each in errors.items() if scheme in each}
        worst = max(measured, key=lambda name: measured[name], default=None)
        result[scheme] = {
            "architectures": len(measured),
            "above_1e-5": sorted(name for name, error in measured.items() if not error < 1e-5),
            "largest_error": measured.get(worst),
            "of": worst,
        }
    result["no_heads"] = sum("mimetic" not in each for each in errors.values())
    result["left_out"] = len(found) - len(errors)
    return result


# --- cards and memory -----------------------------------------------------------------------------


def card() -> dict[str, int]:
    """Return the size of the statistics file of a Llama of 7 B parameters, in bytes."""
    model = skeleton(AutoModelForCausalLM, LlamaConfig(**SEVEN_B))
    generator = torch.Generator().manual_seed(0)
    moments = {}
    for name, parameter in model.named_parameters():
        measured = Moments.of(torch.empty(999).normal_(0.001, 0.02, generator=generator), True)
        shape = tuple(parameter.shape)
        spectrum = None
        if len(shape) == 2:
            spectrum = measure_spectrum(torch.empty(64, 64).normal_(generator=generator))
        moments[name] = replace(measured, shape=shape, numel=parameter.numel(), spectrum=spectrum)
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "parameter_statistics.json"
        without: dict[str, dict[str, None]] = {
            "bytes": {"absolute": None, "spectrum": None},
            "bytes_with_absolute": {"spectrum": None},
            "bytes_with_both": {},
        }
        for kind, fields in without.items():
            stored = {name: replace(m, **fields) for name, m in moments.items()}
            ParameterStatistics("a checkpoint of 7 B parameters", stored).save(file)
            sizes[kind] = file.stat().st_size
    return {"parameters": model.num_parameters(), "tensors": len(moments), **sizes}


def make_once() -> None:
    """Make the Llama of 1.1 B parameters; print what it adds to the peak, and its bytes, in MB."""
    small = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=128,
    )
    source = ParameterStatistics.from_model(build(AutoModelForCausalLM, small, {}, 0), "small")
    factory = StatisticsInit(AutoModelForCausalLM)
    factory.from_config(small, source)  # libraries and compiled code are loaded
    before = peak_mb()
    model = factory.from_config(LlamaConfig(**ONE_B), source)
    size = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    print(json.dumps({"added_mb": round(peak_mb() - before), "parameters_mb": round(size)}))


def memory() -> dict[str, float]:
    """Return the peak of a process that makes the model."""
    ask = [sys.executable, __file__, "--make-once"]
    found = json.loads(subprocess.run(ask, capture_output=True, text=True, check=True).stdout)
    return found | {"ratio": round(found["added_mb"] / found["parameters_mb"], 3)}


def main() -> None:
    """Measure all and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="model types")
    parser.add_argument("--seconds", type=float, default=3600, help="for the identities")
    parser.add_argument("--memory", action="store_true", help="the card and the large model too")
    parser.add_argument("--make-once", action="store_true", help="for the memory alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    if options.make_once:
        make_once()
        return

    # What was measured before stays; an architecture that is named is measured again.
    stored = read_json(RESULT) if RESULT.exists() else {}
    found = stored.get("of_each", {})
    for name in options.only or ():
        found.pop(name, None)
    result: dict[str, Any] = {
        "transformers": transformers.__version__,
        "card": card() if options.memory or not stored else stored["card"],
        "memory": memory() if options.memory else stored.get("memory"),
    }

    def keep() -> None:
        result["identities"] = summary(found)
        result["not_reached"] = len(set(MODEL_MAPPING_NAMES) - found.keys())
        result["of_each"] = dict(sorted(found.items()))
        write_json(RESULT, result)

    measure(options.only or sorted(MODEL_MAPPING_NAMES), options.seconds, found, keep)
    keep()
    print(json.dumps({name: each for name, each in result.items() if name != "of_each"}, indent=1))


if __name__ == "__main__":
    main()
