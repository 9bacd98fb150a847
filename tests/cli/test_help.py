"""Help: every field of a verb's dataclasses is a flag, once, with the help text that it carries.

Run: pytest tests/cli/test_help.py
"""

import dataclasses

import pytest

from hf_synpre.cli import main
from hf_synpre.cli.options import parse
from hf_synpre.cli.verbs import VERBS
from hf_synpre.data.tokenizers import LEAST_IDS, LEAST_IDS_OF_ENCODER
from hf_synpre.errors import UsageError
from hf_synpre.training.pretraining_spec import PretrainingSpec


@pytest.fixture
def show_help(capsys, monkeypatch):
    """Return the function that returns the help of a verb."""
    monkeypatch.setenv("COLUMNS", "100")

    def show(verb):
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        assert stop.value.code == 0
        return capsys.readouterr().out

    return show


def one_line(text):
    return " ".join(text.split())


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_every_field_once_with_its_help_text(verb, show_help):
    shown = show_help(verb)
    for flags in VERBS[verb].flag_sets():
        for field in dataclasses.fields(flags.spec):
            if field.name in flags.left_out:
                continue
            name = flags.names.get(field.name, field.name)
            assert shown.count(f"\n  --{name} ") == 1, name
            help_text = flags.helps.get(field.name) or field.metadata["help"]
            assert help_text, name
            assert one_line(shown).count(one_line(help_text)) == 1, name


@pytest.mark.parametrize("verb", VERBS)
def test_a_field_without_a_flag_has_a_reason(verb):
    for flags in VERBS[verb].flag_sets():
        names = {field.name for field in dataclasses.fields(flags.spec)}
        for exceptions in (flags.left_out, flags.names, flags.defaults, flags.helps):
            assert set(exceptions) <= names
        assert {name for group in flags.groups.values() for name in group} <= names
        assert all(flags.left_out.values())


@pytest.mark.parametrize("verb", VERBS)
def test_help_begins_with_the_usual_spelling_and_ends_with_two_examples(verb, show_help):
    shown = show_help(verb)
    word = VERBS[verb].positional.upper() + (" ..." if VERBS[verb].takes_several else "")
    expected = word if VERBS[verb].needs_positional else f"[{word}]"
    assert shown.startswith(f"usage: synpre {verb} {expected} [options]\n")
    assert "None" not in shown
    examples = shown.partition("\nexamples:\n")[2].splitlines()
    assert len(examples) == 2
    assert all(line.startswith(f"  synpre {verb}") for line in examples)


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_help_are_understood(verb):
    for example in VERBS[verb].examples:
        parse(VERBS[verb], example.replace("'", "").split())


def test_no_two_flags_of_a_verb_have_one_name():
    for verb in VERBS.values():
        names = [
            flags.names.get(field.name, field.name)
            for flags in verb.flag_sets()
            for field in dataclasses.fields(flags.spec)
            if field.name not in flags.left_out
        ]
        assert len(names) == len(set(names)), verb.name


def test_former_names_are_understood_and_not_shown(show_help):
    given = parse(VERBS["pretrain"], ["set", "--competence", "0.5", "--ramp-steps=7"])
    assert given.of(PretrainingSpec) == {
        "task": "set",
        "target_accuracy": 0.5,
        "curriculum_steps": 7,
    }
    shown = show_help("pretrain")
    assert "competence" not in shown
    assert "ramp_steps" not in shown
    same = "--competence and --target_accuracy are two names of one option; give --target_accuracy"
    with pytest.raises(UsageError, match=same):
        parse(VERBS["pretrain"], ["--competence", "0.5", "--target_accuracy", "0.6"])
    with pytest.raises(UsageError, match="--target_accuracy was given twice; give it once"):
        parse(VERBS["pretrain"], ["--competence", "0.5", "--competence", "0.6"])


def test_only_what_was_given_is_returned():
    given = parse(VERBS["pretrain"], ["--max_steps", "5", "--use_cpu"])
    assert given.values == {}
    assert given.training == {"max_steps": 5, "use_cpu": True}


def test_a_switch_takes_a_word_or_none():
    for words, expected in ((["--dry_run"], True), (["--dry_run", "false"], False)):
        (values,) = parse(VERBS["push"], words).values.values()
        assert values == {"dry_run": expected}
    with pytest.raises(UsageError, match="'maybe' is neither true nor false"):
        parse(VERBS["push"], ["--dry_run", "maybe"])


@pytest.mark.parametrize("word", ["null", "none", "None"])
def test_an_optional_number_may_be_null_and_another_may_not(word):
    from hf_synpre.finetuning import FinetuningSpec

    given = parse(VERBS["finetune"], ["cola", "--test_examples", word]).of(FinetuningSpec)
    assert given["test_examples"] is None
    with pytest.raises(UsageError, match="argument --evaluations: invalid int value"):
        parse(VERBS["finetune"], ["cola", "--evaluations", word])


def test_help_shows_the_defaults_of_training_and_the_least_ids(show_help):
    shown = one_line(show_help("self-pretrain"))
    assert "--learning_rate 0.01" in shown
    assert "--per_device_train_batch_size 64" in shown
    least = min(LEAST_IDS, LEAST_IDS_OF_ENCODER), max(LEAST_IDS, LEAST_IDS_OF_ENCODER)
    assert f"at least {least[1]}, or {least[0]} for an encoder-decoder" in shown


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_its_columns(verb, show_help):
    assert max(len(line) for line in show_help(verb).splitlines()) <= 100


def test_version_names_the_package_and_its_libraries(capsys):
    assert main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("hf_synpre ")
    names = [line.split()[0] for line in lines]
    assert {"python", "torch", "transformers", "datasets"} <= set(names)
