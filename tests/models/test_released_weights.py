"""The checkpoints of model_cards/: weights that from_pretrained loads and that do what cards say.

Run: pytest tests/models/test_released_weights.py
"""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoTokenizer

from hf_synpre import ParameterStatistics, StatisticsInit
from hf_synpre.cli import main
from hf_synpre.config import build_spec, read_yaml
from hf_synpre.errors import UsageError
from hf_synpre.files import read_json, write_json
from hf_synpre.hub.cards import auto_class
from hf_synpre.initialization import STATISTICS_FILE
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.pretraining import PRETRAINING_ARGUMENTS
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import fresh_model, pretraining_trainer
from hf_synpre.vocabulary import as_vocabulary

HOME = Path(__file__).parents[2]
STATISTICS = HOME / "hf_synpre" / "statistics"
FOLDERS = sorted(file.parent for file in HOME.glob("model_cards/*/model.safetensors"))
NAMES = [folder.name for folder in FOLDERS]


def loader(name):
    """Return the Auto class of a checkpoint, by the config that is bundled with its statistics."""
    (architecture,) = read_json(STATISTICS / name / "config.json")["architectures"]
    return getattr(transformers, auto_class(architecture))


@pytest.fixture
def copied(tmp_path):
    """A function that copies a checkpoint, since its measured statistics are kept beside it."""
    return lambda folder: shutil.copytree(folder, tmp_path / "copies" / folder.name)


def test_weights_are_released_in_a_size_for_a_clone():
    assert sorted(NAMES) == sorted(read_yaml(HOME / "model_cards/checkpoints.yaml")["weights"])
    sizes = [(folder / "model.safetensors").stat().st_size for folder in FOLDERS]
    assert max(sizes) <= 2_000_000
    assert sum(sizes) <= 25_000_000


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_from_pretrained_loads_what_the_bundled_statistics_describe(folder, copied):
    model, info = loader(folder.name).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {
        torch.bfloat16
    }
    assert model.config.use_cache
    assert model.dtype == torch.float32

    # bfloat16 has eight bits: a value is kept to 1 part in 256, and a tensor's deviation closer.
    bundled = ParameterStatistics.from_pretrained(f"synpre/{folder.name}").parameters
    measured = ParameterStatistics.from_pretrained(copied(folder)).parameters
    assert bundled.keys() == measured.keys()
    for name, moments in measured.items():
        assert moments.sd == pytest.approx(bundled[name].sd, rel=2e-3, abs=1e-6), name
        assert moments.mean == pytest.approx(bundled[name].mean, rel=4e-3, abs=1e-4), name


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_a_checkpoint_answers_the_rows_that_its_card_shows(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    block = re.search(r"trained on rows like these.*?```python\n(.*?)```", card, flags=re.S)
    shown = {}
    exec(block[1], shown)
    model = loader(folder.name).from_pretrained(folder).eval()

    end, right = 1, 0
    for row in shown["rows"].take(12):
        prompt = torch.tensor([[*row["input_ids"], end]])
        answer = [*row["labels"], end]
        ids = model.generate(prompt, max_new_tokens=len(answer), do_sample=False, pad_token_id=0)
        right += ids[0, -len(answer) :].tolist() == answer
    assert right >= 9


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_a_checkpoint_answers_as_many_tokens_as_its_card_says(folder, tmp_path):
    result = read_json(STATISTICS / folder.name / "pretraining.json")
    assert f"| validation token accuracy | {result['accuracy']:.4f} |" in (
        folder / "README.md"
    ).read_text(encoding="utf-8")

    recipe = result["recipe"]
    start = {"start": str(folder), "validation_examples": 128}
    spec = build_spec(PretrainingSpec, recipe["pretraining"] | start, folder.name)
    vocabulary = as_vocabulary(spec.vocabulary)
    chosen = spec.training | {"use_cpu": True, "report_to": [], "disable_tqdm": True}
    args = training_arguments(tmp_path, chosen, **PRETRAINING_ARGUMENTS, seed=0)
    network = fresh_model(spec, build_spec(ModelSpec, recipe["model"], "model"), vocabulary)
    measured = pretraining_trainer(spec, network, vocabulary, args).evaluate()
    assert measured["eval_token_accuracy"] == pytest.approx(result["accuracy"], abs=0.01)


def test_a_folder_with_weights_stands_for_its_checkpoint(copied, tmp_path, monkeypatch):
    folder = HOME / "model_cards" / "t5-mini-set"
    auto = loader("t5-mini-set")
    drawn = StatisticsInit(auto, seed=0).from_pretrained(copied(folder))
    bundled = StatisticsInit(auto, seed=0).from_pretrained("synpre/t5-mini-set")
    for (name, ours), theirs in zip(drawn.named_parameters(), bundled.parameters(), strict=True):
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=2e-2, atol=2e-3, msg=name)
    with pytest.raises((OSError, ValueError)):
        AutoTokenizer.from_pretrained(folder)

    monkeypatch.chdir(HOME)
    command = ["finetune", "examples/own_task.yaml", "--init", "weights"]
    command += ["--checkpoint", "model_cards/t5-mini-set", "--max_steps", "2"]
    command += ["--evaluations", "1", "--test_examples", "8", "--warmup_steps", "0"]
    assert main([*command, "--output_dir", str(tmp_path / "tuned")]) == 0
    tuned = load_file(tmp_path / "tuned" / "imports--weights--0" / "model.safetensors")
    body = "encoder.block.0.layer.0.SelfAttention.q.weight"
    assert tuned[body].dtype == torch.float32
    released = load_file(folder / "model.safetensors")[body].float()
    assert torch.corrcoef(torch.stack([tuned[body].flatten(), released.flatten()]))[0, 1] > 0.9


@pytest.fixture
def make(monkeypatch, tmp_path):
    """The module make.py, whose package and cards are folders of this test."""
    monkeypatch.syspath_prepend(str(HOME / "model_cards"))
    import make

    for name in ("CARDS", "STATISTICS"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(make, name, tmp_path / name)
    return make


def run_of(folder, accuracy):
    """Write the folder of a finished run, in float32, made of a released checkpoint."""
    shutil.copytree(STATISTICS / "t5-mini-set", folder)
    auto = loader("t5-mini-set")
    auto.from_pretrained(HOME / "model_cards" / "t5-mini-set", dtype=torch.float32).save_pretrained(
        folder
    )
    ParameterStatistics.from_pretrained(folder).save(folder / STATISTICS_FILE)
    result = read_json(folder / "pretraining.json") | {"accuracy": accuracy}
    write_json(folder / "pretraining.json", result)
    return result


CHECKPOINTS = {
    "models": {"t5-mini": {"model_type": "t5"}},
    "run": {"training": {"max_steps": 200}},
    "weights": ["t5-mini-set"],
    "checkpoints": {"t5-mini-set": {"task": "set"}},
}


@pytest.mark.parametrize(
    ("accuracy", "weights"), [(0.95, ["t5-mini-set"]), (0.85, ["t5-mini-set"]), (0.95, [])]
)
def test_one_command_makes_statistics_weights_and_card(
    make, accuracy, weights, tmp_path, monkeypatch
):
    result = run_of(tmp_path / "work" / "t5-mini-set", accuracy)
    monkeypatch.setattr(make, "pretrain", lambda spec, model, folder: result)
    make.make_checkpoint("t5-mini-set", CHECKPOINTS | {"weights": weights}, tmp_path / "work")
    assert sorted(file.name for file in (make.STATISTICS / "t5-mini-set").iterdir()) == sorted(
        make.RELEASED
    )
    card = (make.CARDS / "t5-mini-set" / "README.md").read_text(encoding="utf-8")
    has_weights = (make.CARDS / "t5-mini-set" / "model.safetensors").exists()
    assert has_weights == (accuracy >= 0.9 and weights != [])
    assert ('from_pretrained("CARDS/t5-mini-set")' in card) == has_weights
    assert ("tensor), not the weights" in card) != has_weights
    assert make.is_complete("t5-mini-set", has_weights=has_weights)


def test_weights_of_other_statistics_are_not_released(make, tmp_path, monkeypatch):
    result = run_of(tmp_path / "work" / "t5-mini-set", 0.95)
    released = shutil.copytree(tmp_path / "work" / "t5-mini-set", make.STATISTICS / "t5-mini-set")
    statistics = json.loads((released / STATISTICS_FILE).read_text())
    statistics["parameters"][0]["sd"] *= 1.01
    write_json(released / STATISTICS_FILE, statistics)
    monkeypatch.setattr(make, "pretrain", lambda spec, model, folder: result)
    with pytest.raises(UsageError, match=r"do not have the released statistics .* at commit "):
        make.make_checkpoint("t5-mini-set", CHECKPOINTS, tmp_path / "work")
    assert list(make.CARDS.iterdir()) == []
