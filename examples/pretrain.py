"""Pre-train on a synthetic task with any launcher.

    accelerate launch examples/pretrain.py --task set --preset fast ...

The flags are those of `synpre pretrain` and all of transformers' TrainingArguments. A killed run
goes on when it is started again, on any number of processes. Settings for several GPUs, machines
and FSDP: examples/configs/.
"""

import sys

from hf_synpre.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
