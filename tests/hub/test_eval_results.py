"""A fine-tuned model says its score where the Hub of 2026 reads it: .eval_results/*.yaml.

Run: pytest tests/hub/test_eval_results.py
"""

import urllib.request

import yaml
from hub_clients import HOME, push
from huggingface_hub import EvalResultEntry, ModelCard, parse_eval_result_entries

from hf_synpre import __version__
from hf_synpre.hub.cards import linked_papers

UPLOAD = """
from pathlib import Path
from huggingface_hub import HfApi
HfApi().create_repo("synpre/kinds", repo_type="dataset")
HfApi().upload_folder(repo_id="synpre/kinds", folder_path={folder!r}, repo_type="dataset")
print(1)
"""
FINETUNE = ["--max_steps", "2", "--evaluations", "1", "--model_type", "electra"]
FINETUNE += ["--config_overrides", "hidden_size=32,num_hidden_layers=1,num_attention_heads=2"]


def test_a_score_on_a_dataset_of_the_hub_is_published_beside_the_model_index(server):
    server.client(UPLOAD.format(folder=str(HOME / "examples" / "data" / "kinds")))
    words = ["-m", "hf_synpre", "finetune", "synpre/kinds", *FINETUNE, "--output_dir", "tuned"]
    done = server.run(*words)
    assert done.returncode == 0, done.stderr
    (folder,) = (file.parent for file in (server.folder / "tuned").glob("*/model.safetensors"))
    assert push(server, folder, "synpre/kinds-electra").returncode == 0

    (name,) = (file for file in server.files("models/synpre/kinds-electra") if "eval" in file)
    assert name == ".eval_results/kinds.yaml"
    address = f"{server.address}/synpre/kinds-electra/resolve/main"
    with urllib.request.urlopen(f"{address}/{name}") as answer:
        (entry,) = parse_eval_result_entries(yaml.safe_load(answer))
    with urllib.request.urlopen(f"{address}/README.md") as answer:
        (score,) = ModelCard(answer.read().decode()).data.eval_results
    assert entry == EvalResultEntry(
        dataset_id="synpre/kinds",
        task_id="default",
        value=score.metric_value,
        notes=f"accuracy on 200 examples of the test split; one seed of fine-tuning, by hf_synpre "
        f"{__version__}",
    )
    assert score.dataset_type == "synpre/kinds"


def test_papers_are_links():
    assert linked_papers("Wu, Li, Liang 2022, arXiv 2206.10139; arXiv 2101.06223v2") == (
        "Wu, Li, Liang 2022, [arXiv 2206.10139](https://arxiv.org/abs/2206.10139); "
        "[arXiv 2101.06223v2](https://arxiv.org/abs/2101.06223v2)"
    )
    assert linked_papers("a control, of no paper") == "a control, of no paper"
