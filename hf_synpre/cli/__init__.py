"""The command line: `synpre VERB ...` in, one call of the library and its exit code out.

1. `verbs.main`: the words of a command line -> the verb, its exit code, errors in one line.
2. `options.Verb`: a verb's dataclasses (`FlagSet`) -> its flags. What a verb shares with YAML files
   stands once, at the field of `PretrainingSpec`, `ModelSpec`, `TextSpec` ...
3. `options.parse`: a verb and its words -> `Arguments`: the values that were given, by dataclass.
4. The verbs, each a function of `Arguments`: tasks.py (tasks, generate), build.py, pretrain.py
   (pretrain, self-pretrain), statistics.py, experiment.py (finetune, run, report), push.py,
   reproduce.py.
"""

from hf_synpre.cli.verbs import main

__all__ = ["main"]
