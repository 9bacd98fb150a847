"""No code of a repository runs: a config or tokenizer that needs its own is refused, unasked.

Run: pytest tests/test_remote_code.py
"""

import ast
import json
from pathlib import Path

import pytest

from hf_synpre.cli import main

SOURCES = sorted((Path(__file__).parents[1] / "hf_synpre").rglob("*.py"))
AUTO_METHODS = ("from_pretrained", "from_config")
CODE = """
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedTokenizerFast

Path("ran").touch()


class OddConfig(PreTrainedConfig):
    model_type = "odd"


class OddTokenizer(PreTrainedTokenizerFast):
    pass
"""


def auto_calls(source):
    """Yield every call AutoX.from_pretrained or AutoX.from_config of a text of Python."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        is_auto = isinstance(owner, ast.Name) and owner.id.startswith("Auto")
        if is_auto and node.func.attr in AUTO_METHODS:
            yield node


def trusts(call):
    said = {word.arg: word.value for word in call.keywords}.get("trust_remote_code")
    return not (isinstance(said, ast.Constant) and said.value is False)


def test_every_auto_class_is_told_to_trust_no_code():
    calls = [(file.name, call) for file in SOURCES for call in auto_calls(file.read_text())]
    assert len(calls) >= 5
    assert [f"{name}:{call.lineno}" for name, call in calls if trusts(call)] == []


@pytest.fixture
def folder_with_code(tmp_path, monkeypatch):
    """A folder ./odd whose config and tokenizer are classes of a file in it."""
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "odd.py").write_text(CODE)
    config = {"model_type": "odd", "auto_map": {"AutoConfig": "odd.OddConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    classes = {"AutoTokenizer": ["odd.OddTokenizer", "odd.OddTokenizer"]}
    tokenizer = {"tokenizer_class": "OddTokenizer", "auto_map": classes}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (tmp_path / "x.csv").write_text("text\nsome words\nmore words\nother words\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))


@pytest.mark.parametrize(
    "words",
    [
        "pretrain set --config_name ./odd --vocabulary 128 --max_steps 1 --output_dir out",
        "generate set --vocabulary ./odd",
        "self-pretrain x.csv --tokenizer_name ./odd --output_dir out",
    ],
)
def test_a_checkpoint_that_needs_its_own_code_is_refused(words, folder_with_code, capsys):
    assert main(words.split()) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("synpre: ")
    assert "it needs Python code of its own (auto_map), which is never run here" in error
    assert not Path("ran").exists()
