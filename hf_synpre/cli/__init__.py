"""The command line: `synpre VERB`; every verb is a function of one dataclass of options."""

from hf_synpre.cli.verbs import main

__all__ = ["main"]
