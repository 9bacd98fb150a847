"""What the header of a pre-trained model's safetensors files says: its task, tokens and commit."""

import json
from collections.abc import Mapping
from typing import Any

import hf_synpre
from hf_synpre.provenance import recipe_sha256, without_local_paths
from hf_synpre.tasks import get_task
from hf_synpre.versions import commit


def pretraining_facts(recipe: Mapping[str, Any], tokens: float) -> dict[str, Any]:
    """Return the facts of a pre-trained model, for `provenance.write_facts`.

    Args:
        recipe: all that decided the weights, as pretraining.json has it; {} where it is not known.
        tokens: the tokens that the model has seen in this run, padding left out.

    Returns:
        task, version and parameters (JSON, defaults included) of the synthetic task, or the
        corpus; tokens; the commit and version of hf_synpre; recipe_sha256.
    """
    pretraining = recipe.get("pretraining") or {}
    facts: dict[str, Any] = {}
    if pretraining.get("task"):
        task = get_task(pretraining["task"])
        # Of a parameter that is a choice of words, the first is the default.
        parameters = {
            name: default[0] if isinstance(default, tuple) else default
            for name, default in task.parameters.items()
        }
        parameters |= pretraining.get("parameters") or {}
        facts["task"] = task.name
        facts["version"] = task.version
        facts["parameters"] = json.dumps(parameters, sort_keys=True)
    elif pretraining.get("corpus"):
        facts["corpus"] = without_local_paths(pretraining["corpus"])

    facts["tokens"] = int(tokens)
    facts["commit"] = commit()
    facts["hf_synpre"] = hf_synpre.__version__
    facts["recipe_sha256"] = recipe_sha256(recipe) if recipe else None
    return facts
