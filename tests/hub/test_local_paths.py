"""No path of this machine is published; tokens of a vocabulary and addresses stay.

Run: pytest tests/hub/test_local_paths.py
"""

import json
import shutil

import pytest

from hf_synpre import hub
from hf_synpre.provenance import without_local_paths


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/me/clients ACME/letters.csv", "letters.csv"),
        ("C:\\Users\\me\\letters.csv", "letters.csv"),
        ("trained on /home/me/letters.csv, 3 rows", "trained on letters.csv, 3 rows"),
        ("~/clients/ACME/letters.csv", "letters.csv"),
        (["a", {"start": "/srv/models/t5"}], ["a", {"start": "t5"}]),
        ("runs/set", "runs/set"),
        ("https://huggingface.co/a/b", "https://huggingface.co/a/b"),
        ("google-t5/t5-small", "google-t5/t5-small"),
        ("input / target / output", "input / target / output"),
        ("</s>", "</s>"),
        (3, 3),
    ],
)
def test_absolute_paths_become_their_last_name(value, expected):
    assert without_local_paths(value) == expected


def test_a_push_names_no_folder_of_this_machine(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "clients" / "m")
    secret = str(tmp_path / "clients")
    result = json.loads((folder / "pretraining.json").read_text())
    result["recipe"]["pretraining"] |= {"corpus": f"{secret}/letters.csv", "task": None}
    result["recipe"] |= {"corpus": {"name": f"{secret}/letters.csv", "rows": 3, "columns": ["a"]}}
    result["recipe"]["tokenizer"] = {"origin": f"trained on {secret}/letters.csv"}
    (folder / "pretraining.json").write_text(json.dumps(result))
    (folder / "tokenizer.json").write_text(json.dumps({"vocab": ["/usr/bin/env"]}))

    for own_card in (None, f"Trained on {secret}/m/config.json; see /usr/no/such."):
        if own_card is not None:
            (folder / "README.md").write_text(own_card)
        files = hub.plan_push(folder, "me/m").files
        contents = {
            name: content if isinstance(content, bytes) else content.read_bytes()
            for name, content in files.items()
        }
        assert [name for name, content in contents.items() if secret.encode() in content] == []
        assert b"/usr/bin/env" in contents["tokenizer.json"]
        assert b"letters.csv" in contents["pretraining.json"]
    assert contents["README.md"] == b"Trained on config.json; see /usr/no/such."
    assert secret in (folder / "pretraining.json").read_text(), "the folder stays as it is"
