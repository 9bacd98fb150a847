"""Pre-train on a synthetic task with any launcher.

    accelerate launch examples/pretrain.py                  # preset small: some minutes on a CPU
    accelerate launch examples/pretrain.py --preset smoke   # 100 steps, to see that it runs
    accelerate launch examples/pretrain.py --preset paper --config_name google-t5/t5-small   # a GPU

The flags are those of `synpre pretrain` and all of transformers' TrainingArguments. A killed run
goes on when it is started again, on any number of processes. Settings for several GPUs, machines
and FSDP: examples/configs/.
"""

import sys

from hf_synpre.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
