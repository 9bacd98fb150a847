"""`synpre push`: a folder in, one commit on the Hub out."""

from dataclasses import dataclass

from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, Verb
from hf_synpre.config import option
from hf_synpre.errors import UsageError


@dataclass
class PushOptions:
    """What `synpre push` takes."""

    directory: str = option("What `synpre pretrain`, `finetune`, `statistics` or `build` made.", "")
    repo_id: str = option("The repository on the Hub, namespace/name.", "")
    private: bool = option("A repository that is new becomes a private one.", False)
    tag: str | None = option("A tag for the commit.", None)
    dry_run: bool = option("Print what would be published, and do nothing.", False)


def push(arguments: Arguments) -> int:
    """Publish a folder in one commit and print its URL, or print what that would be."""
    from hf_synpre import hub

    options = arguments.build(PushOptions)
    if not options.directory or not options.repo_id:
        raise UsageError(
            "push needs a folder and a repository; write `synpre push DIR --repo_id "
            "NAMESPACE/NAME`."
        )

    if options.dry_run:
        print("\n".join(hub.plan_push(options.directory, options.repo_id).lines()))
        return 0
    # Without --private a new repository is what the account's settings make of it.
    private = options.private or None
    print(hub.push(options.directory, options.repo_id, private=private, tag=options.tag))
    return 0


PUSH = Verb(
    name="push",
    summary="Publish a folder on the Hub: a trained model, statistics, or a built dataset.",
    run=push,
    flag_sets=lambda: [FlagSet(PushOptions), IMPORT_FLAG],
    positional="directory",
    needs_positional=True,
    examples=("runs/set --repo_id me/t5-set", "runs/set-data --repo_id me/set --dry_run"),
)
