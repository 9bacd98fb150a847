"""Layer 6: the verb push, and what every transfer returns."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from hf_synpre.cli.options import option
from hf_synpre.errors import UsageError


@dataclass
class PushOptions:
    """Publish a folder on the Hub: a pre-trained model, statistics, or a built dataset."""

    directory: str = option("what `synpre pretrain` or dataset_scripts/build.py made", "")
    repo_id: str = option("namespace/name on the Hub", "")
    private: bool = option("a repository that is new becomes a private one", False)
    tag: str | None = option("a tag for the commit")
    dry_run: bool = option("print what would be published, and do nothing", False)


def push(options: PushOptions) -> int:
    """Publish a folder in one commit and print its URL, or print what that would be."""
    from hf_synpre import hub

    if not options.directory or not options.repo_id:
        raise UsageError(
            "push needs a folder and a repository; write `synpre push DIR --repo_id NAMESPACE/NAME`."
        )
    if options.dry_run:
        print("\n".join(hub.plan_push(options.directory, options.repo_id).lines()))
        return 0
    more = {"private": options.private or None, "tag": options.tag}
    return attempt(lambda: print(hub.push(options.directory, options.repo_id, **more)) or 0)


def attempt(work: Callable[[], int]) -> int:
    """Return what a transfer returns, 1 with one line on standard error where it broke off."""
    from hf_synpre.hub import PushError

    try:
        return work()
    except PushError as error:
        print(f"synpre: {error}", file=sys.stderr)
        return 1
