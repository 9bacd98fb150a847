# /// script
# requires-python = ">=3.11"
# dependencies = ["huggingface_hub>=1.31,<3"]
#
# [tool.hf-jobs]
# flavor = "t4-small"
# timeout = "2h"
# secrets = ["HF_TOKEN"]
# ///
"""Pre-train on a synthetic task in a job of the Hub, and publish the model with its card.

    hf jobs uv run --with "hf_synpre @ git+$URL" examples/jobs/pretrain_and_push.py me/t5-set set

The first word is the repository, the second the task; flags of `synpre pretrain` may follow, such
as `--preset paper --config_name google-t5/t5-small`. hf_synpre is on no package index: --with names
the address of its repository, and brings what it needs. Without `hf` the script runs anywhere:

    python examples/jobs/pretrain_and_push.py me/t5-set set --preset smoke
"""

import sys

from huggingface_hub import HfApi

from hf_synpre.cli import main
from hf_synpre.errors import UsageError
from hf_synpre.hub.checks import check_repo_id, hub_errors


def run(words: list[str]) -> int:
    """Pre-train and publish; return the exit code of `synpre pretrain`.

    Args:
        words: the repository, the task, and flags of `synpre pretrain`.
    """
    if len(words) < 2 or words[0].startswith("-") or words[1].startswith("-"):
        print(
            "pretrain_and_push.py: give a repository and a task, such as me/t5-set set.",
            file=sys.stderr,
        )
        return 2
    repo_id, *rest = words

    # A job's disk is gone when it ends: whether the model may be pushed is known before it trains.
    try:
        with hub_errors(check_repo_id(repo_id)):
            HfApi().create_repo(repo_id, exist_ok=True)
    except UsageError as error:
        print(f"pretrain_and_push.py: {error}", file=sys.stderr)
        return 2
    return main(["pretrain", *rest, "--push_to_hub", "--hub_model_id", repo_id])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
