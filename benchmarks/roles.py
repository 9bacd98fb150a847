"""Every architecture of transformers, two layers -> whether its modules tell all roles.

    python benchmarks/roles.py [--only t5 bert ...]     -> results/roles.json (about four minutes)

The limit is all models that can be built from a default config without the network; those that
cannot are counted apart.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers
from transformers import AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from hf_synpre.files import write_json
from hf_synpre.initialization import read_parameters, skeleton

RESULT = Path(__file__).parent / "results" / "roles.json"
DEPTHS = (
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
)


def shallow(model_type: str) -> transformers.PreTrainedConfig:
    """Return the default config of an architecture, its depths cut to two layers."""
    config = CONFIG_MAPPING[model_type]()
    for part in (
        config,
        *(getattr(config, name, None) for name in ("text_config", "vision_config")),
    ):
        for name in DEPTHS:
            if isinstance(depth := getattr(part, name, None), int) and depth > 2:
                setattr(part, name, 2)
    return config


def untold(model_type: str) -> list[str] | None:
    """Return the templates of parameters without a role; None for a model that is not built."""
    try:
        model = skeleton(AutoModel, shallow(model_type))
    except Exception:  # whatever an architecture raises on its own defaults
        return None
    return sorted({p.template for p in read_parameters(model).values() if p.role is None})


def main() -> int:
    """Read all models and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="model types")
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    found = {name: untold(name) for name in parser.parse_args().only or sorted(MODEL_MAPPING_NAMES)}
    built = {name: templates for name, templates in found.items() if templates is not None}
    result = {
        "transformers": transformers.__version__,
        "built": len(built),
        "not_built": len(found) - len(built),
    }
    result |= {"told": sum(not templates for templates in built.values())}
    result |= {"untold": {name: templates[:3] for name, templates in built.items() if templates}}
    write_json(RESULT, result)
    print({name: value for name, value in result.items() if name != "untold"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
