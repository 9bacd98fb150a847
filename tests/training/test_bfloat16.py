"""Training in bfloat16 on CPUs without instructions for it."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hf_synpre.data.synthetic import SyntheticDataset
from hf_synpre.training import bfloat16
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.bfloat16 import Float32Products, fast_bfloat16

aten = torch.ops.aten
