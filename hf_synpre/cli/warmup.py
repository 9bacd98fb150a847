"""`synpre warmup`: the config of a model in, a folder with the warmed-up model out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_synpre.cli.init import InitOptions, check_new_folder, find_config, find_tokenizer
from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, Verb
from hf_synpre.cli.pretrain import is_first_process, print_numbers, say, say_verdict, shown
from hf_synpre.cli.processes import say_if_alone
from hf_synpre.config import option
from hf_synpre.errors import UsageError

# The facts of a warm-up, beside the model.
FACTS_FILE = "warmup.json"


@dataclass
class WarmUpOptions:
    """What `synpre warmup` takes."""

    model: str = option(
        "The config of the model: a model_type of transformers (gpt2), which has transformers' "
        "default sizes (llama: 6.7 G parameters), a folder or config.json, or a Hub id. The model "
        "is drawn anew; weights that lie there are not read.",
        "",
    )
    overrides: dict[str, Any] = option(
        "Fields of the config that are changed, as n_embd=128,n_layer=2.", default_factory=dict
    )
    tokenizer_name: str | None = option(
        "Folder or Hub id of the tokenizer, which is saved with the model and gives it its number "
        "of ids. Without it the one that lies beside the config, if there is one.",
        None,
    )
    vocabulary: int | None = option(
        "How many ids the model has, where it has no tokenizer; those of the config without it.",
        None,
    )
    output_dir: str = option("Folder of the model and warmup.json; or -o.", "runs/warm")
    task: str | None = option(
        "The synthetic task (see `synpre tasks`); without it the one that the kind of model learns "
        "soonest.",
        None,
    )
    parameters: dict[str, Any] = option(
        "Parameters of the task, as length=64,types=16.", default_factory=dict
    )
    symbols: int = option("How many ids the task has, whatever the model has.", 128)
    steps: int = option("The most steps.", 500)
    seconds: float | None = option(
        "The most seconds of training, evaluations left out; null for no limit.", 60.0
    )
    keep: str = option(
        "What the model keeps: body (all but embeddings, head and tables of positions), attention "
        "or mlp (their matrices alone), or all.",
        "body",
    )
    embeddings: str | None = option(
        "Token embeddings and output layer: fresh (as drawn), kept (ids that the seed draws get "
        "the learnt rows of the symbols) or mean (all rows the mean of those). Without it kept "
        "with keep all, else fresh.",
        None,
    )
    batch_size: int = option("Examples of a step, over all processes.", 32)
    learning_rate: float | None = option(
        "The learning rate, where the usual one does not do.", None
    )
    optim: str | None = option("The optimizer, as transformers calls it.", None)
    seed: int = option("Seed of the model and of the rows, 0 <= seed < 2**32.", 0)


def warmup(arguments: Arguments) -> int:
    """Draw a model, warm it up and save it; exit code 1 where it has not learnt its task."""
    from hf_synpre.files import atomic_folder, write_json
    from hf_synpre.initialization import build
    from hf_synpre.models.families import AUTO_CLASSES, model_family
    from hf_synpre.models.saving import complete_tokenizer, refuse_tokenizer
    from hf_synpre.models.verification import verify_checkpoint
    from hf_synpre.training.warm_up import warm_up

    options = arguments.build(WarmUpOptions)
    if not options.model:
        raise UsageError("No model was given; write `synpre warmup MODEL_TYPE_OR_FOLDER`.")
    folder = Path(options.output_dir)
    check_new_folder(folder)
    say_if_alone()

    # The model, with random weights.
    place = InitOptions(
        options.model,
        overrides=options.overrides,
        tokenizer_name=options.tokenizer_name,
        vocabulary=options.vocabulary,
    )
    tokenizer = find_tokenizer(place)
    config = find_config(place, tokenizer)
    model = build(AUTO_CLASSES[model_family(config)], config, {}, options.seed)

    # Warm it up.
    training: dict[str, Any] = {"batch_size": options.batch_size}
    for name in ("learning_rate", "optim"):
        if getattr(options, name) is not None:
            training[name] = getattr(options, name)
    with shown(f"warming up {config.model_type}"):
        facts = warm_up(
            model,
            tokenizer,
            task=options.task,
            parameters=options.parameters or None,
            steps=options.steps,
            seconds=options.seconds,
            seed=options.seed,
            keep=options.keep,
            embeddings=options.embeddings,
            symbols=options.symbols,
            training=training,
        )
    if not is_first_process():
        return 0

    # Save it, and compare what is loaded.
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial)
        if tokenizer is None:
            refuse_tokenizer(partial)
        else:
            complete_tokenizer(tokenizer, model).save_pretrained(partial)
        write_json(partial / FACTS_FILE, facts)
    report = verify_checkpoint(folder)
    print_numbers(facts)
    say(str(report))
    say(f"The model and {FACTS_FILE} are in {folder}; from_pretrained loads it.")
    exit_code = 0 if report.is_whole and facts["learnt"] is not False else 1
    say_verdict(facts["task"], facts, exit_code)
    return exit_code


WARMUP = Verb(
    name="warmup",
    summary="Warm up a fresh model of any config: teach its layers a synthetic task in a minute.",
    run=warmup,
    flag_sets=lambda: [
        FlagSet(WarmUpOptions, names={"overrides": "config_overrides"}),
        IMPORT_FLAG,
    ],
    positional="model",
    needs_positional=True,
    examples=(
        "gpt2 --config_overrides n_embd=128,n_layer=2,n_head=4 -o runs/warm",
        "my_model/config.json --task mqar --seconds 30 -o runs/warm",
    ),
    when_stopped="nothing is left of it, the same command begins again",
)
