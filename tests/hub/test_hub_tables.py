"""Tables of text on the Hub are read as local files are, and not as pandas reads them.

Run: pytest tests/hub/test_hub_tables.py
"""

UPLOAD = """
from huggingface_hub import CommitOperationAdd, HfApi
api = HfApi()
def upload(name, **files):
    api.create_repo(name, repo_type="dataset")
    operations = [CommitOperationAdd(path.replace("__", "."), text.encode())
                  for path, text in files.items()]
    api.create_commit(name, operations, commit_message="rows", repo_type="dataset")
upload("synpre/words", Train__csv="text,label\\na b,NA\\nc d,None\\n007,x\\n",
       TEST__csv="text,label\\ne f,x\\n")
config = "- config_name: {0}\\n  data_files:\\n  - split: train\\n    path: {0}*\\n"
upload("synpre/quotes", a1__tsv='text\\tn\\n"one\\t1\\ntwo\\t2\\nthree"\\t3\\n',
       b1__jsonl='{"text": "1815-12-10"}\\n', notes__xyz="",
       README__md="---\\nconfigs:\\n" + config.format("a") + config.format("b") + "---\\n")
print(1)
"""
READ = """
from hf_synpre.data.corpora import open_corpus
from hf_synpre.data.splits import open_splits
words = open_splits("synpre/words")
print(json.dumps({
    "words": {split: rows.to_dict() for split, rows in words.items()},
    "quotes": open_splits("synpre/quotes", "a")["train"]["text"][:],
    "dates": open_splits("synpre/quotes", "b")["train"]["text"][:],
    "corpus": list(open_corpus("synpre/words").texts("train")),
}))
"""


def test_tables_of_text_on_the_hub_are_read_as_they_are_written(server):
    server.client(UPLOAD)
    expected = {
        "words": {
            "train": {"text": ["a b", "c d", "007"], "label": ["NA", "None", "x"]},
            "test": {"text": ["e f"], "label": ["x"]},
        },
        "quotes": ['"one', "two", 'three"'],
        "dates": ["1815-12-10"],
        "corpus": ["a b", "c d", "007"],
    }
    assert server.client(READ) == expected
    assert server.client(READ, HF_HUB_OFFLINE="1") == expected
