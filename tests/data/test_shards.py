"""Published datasets: the same bytes whoever builds them, a sha256 of the rows alone.

Run: pytest tests/data/test_shards.py
"""

import hashlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from datasets.exceptions import NonMatchingSplitsSizesError

from hf_synpre import generate, hub
from hf_synpre.cli import main
from hf_synpre.cli.build import PROCEDURAL
from hf_synpre.data import shards
from hf_synpre.data.recipes import DatasetRecipe, Recipe
from hf_synpre.data.shards import (
    BLOCK_ROWS,
    block_digest,
    build_shards,
    read_configs,
    split_digest,
    stored_blocks,
)
from hf_synpre.hub import cards
from hf_synpre.tasks import get_task, iter_row_blocks, list_tasks

HOME = Path(__file__).parents[2]
BUILD = [sys.executable, str(HOME / "dataset_scripts" / "build.py")]
PUBLISHED = sorted((HOME / "dataset_scripts").glob("*.yaml"))
SMALL = {"train": 4300, "validation": 1000}


def build(folder, *words, config="default", wait=True):
    """Run dataset_scripts/build.py as a process of its own."""
    command = [*BUILD, *words, "--config", config, "--output_dir", str(folder)]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(HOME)}, stderr=subprocess.DEVNULL
    )
    if wait:
        assert process.wait() == 0
    return process


def content(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "own.yaml"
    splits = "splits: {train: 4300, validation: 1000}"
    file.write_text(
        f"configs:\n  default: {{task: set, {splits}}}\n"
        f"  other: {{task: lime, seed: 3, vocabulary: 512, {splits}}}\n"
    )
    return str(file)


@pytest.fixture(scope="module")
def built(tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("built") / "own"
    for config in ("default", "other"):
        build(folder, recipe, "--num_shards", "3", config=config)
    return folder


def copy_dataset(folder, target):
    for name, data in content(folder).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    return target


def test_several_processes_build_the_bytes_of_one(tmp_path, built, recipe):
    both = [
        build(tmp_path, recipe, "--num_shards", "3", "--shard_index", str(k), wait=False)
        for k in (2, 0)
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert "data/train-00001-of-00003.parquet" not in content(tmp_path)
    assert "README.md" not in content(tmp_path), "the card comes with the last shard"
    build(tmp_path, recipe, "--num_shards", "3", "--shard_index", "1")
    build(tmp_path, recipe, "--num_shards", "3", config="other")
    assert content(tmp_path) == content(built)


def test_a_killed_build_leaves_complete_shards_and_goes_on(tmp_path):
    recipe = tmp_path / "long.yaml"
    recipe.write_text("configs: {default: {task: set, splits: {train: 160000}}}")
    folder, data = tmp_path / "killed", tmp_path / "killed" / "data"
    process = build(folder, str(recipe), "--num_shards", "40", wait=False)
    while process.poll() is None and len(list(data.glob("*.parquet"))) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {file: file.stat().st_mtime_ns for file in data.glob("*.parquet")}
    assert 2 <= len(kept) < 40
    assert all(
        shards.read_footer(file)["stop"] - shards.read_footer(file)["start"]
        == pq.read_table(file).num_rows
        for file in kept
    )
    build(folder, str(recipe), "--num_shards", "40")
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, (
        "what was there was not built again"
    )
    build(tmp_path / "whole", str(recipe), "--num_shards", "40")
    assert {n: c for n, c in content(folder).items() if "/." not in n} == content(
        tmp_path / "whole"
    ) | {"README.md": (folder / "README.md").read_bytes()}


def test_a_build_that_fails_leaves_no_half_shard(tmp_path, monkeypatch):
    def failing(stream, start, stop, size):
        yield from iter_row_blocks(stream, start, start + 3000, size)
        raise RuntimeError("power cut")

    monkeypatch.setattr(shards, "iter_row_blocks", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        build_shards(Recipe("set", splits=SMALL), "default", tmp_path)
    assert content(tmp_path) == {}


def by_hand(rows):
    """The digest as the card words it, row by row in plain Python."""
    blocks = []
    for first in range(0, len(rows), 1000):
        block, digest = rows[first : first + 1000], hashlib.sha256()
        for column in ("input_ids", "labels"):
            for ids in (
                [len(row[column]) for row in block],
                [i for row in block for i in row[column]],
            ):
                digest.update(struct.pack(f"<{len(ids)}i", *ids))
        blocks.append(digest.digest())
    return hashlib.sha256(b"".join(blocks)).hexdigest()


def test_the_digest_is_of_the_rows_alone(tmp_path, built):
    configs = read_configs(built)
    assert list(configs) == ["default", "other"]
    for split, rows in SMALL.items():
        assert configs["default"]["splits"][split]["sha256"] == by_hand(
            generate("set", 0, rows, split=split).to_pylist()
        )
    odd = tmp_path / "odd.parquet"  # other row groups, another encoding
    pq.write_table(generate("set", 0, 4300), odd, row_group_size=77, compression="gzip")
    assert (
        split_digest(map(block_digest, stored_blocks(odd)))
        == configs["default"]["splits"]["train"]["sha256"]
    )
    build_shards(Recipe("set", splits=SMALL), "default", tmp_path / "one")
    assert (
        read_configs(tmp_path / "one")["default"]["splits"]["train"] | {"shards": 3}
        == configs["default"]["splits"]["train"]
    )


def test_the_digest_has_not_changed():
    """Published cards hold such digests: it may change only together with the task's version."""
    blocks = iter_row_blocks(Recipe("set").stream("validation"), 0, 2500, BLOCK_ROWS)
    assert (
        split_digest(map(block_digest, blocks))
        == "c36e634f672ec55ada7bea5ed1a1eaa790455737ccbd6d218e24baf5cc08392b"
    )


PEAK = """
import re, sys
from hf_synpre.data.recipes import Recipe
from hf_synpre.data.shards import build_shards
build_shards(Recipe("set", splits={"train": int(sys.argv[1])}), "default", sys.argv[2])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1))
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc"
)
def test_memory_does_not_grow_with_rows(tmp_path):
    few, many = (
        int(
            subprocess.run(
                [sys.executable, "-c", PEAK, str(rows), tmp_path / str(rows)],
                capture_output=True,
                check=True,
            ).stdout
        )
        for rows in (100_000, 300_000)
    )
    assert few > 50_000, "KiB: the interpreter alone has so many"
    assert many - few < 30_000, "KiB: 200,000 rows are 138,000 KiB of arrays"


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_published_recipes(file):
    recipes = read(file).configs
    assert recipes["default"].splits == {"train": 1_000_000, "validation": 10_000}
    assert recipes["small"].splits == {"train": 10_000, "validation": 1_000}
    assert recipes["default"].task == recipes["small"].task == file.stem
    others = {part.name for part in getattr(get_task(file.stem), "tasks", ())}
    if file.stem in PROCEDURAL:
        others.add("procedural")
    assert recipes.keys() - {"default", "small"} == others


def read(file):
    from hf_synpre.config import build_spec, read_yaml

    return build_spec(DatasetRecipe, read_yaml(file), str(file))


def test_every_task_is_published():
    parts_of_lime = {"lime_induct", "lime_deduct", "lime_abduct"}
    own = {name for name in list_tasks() if get_task(name).function.__module__[:9] == "hf_synpre"}
    assert {file.stem for file in PUBLISHED} == own - parts_of_lime


def test_load_dataset_gives_the_rows_of_generate(built, tmp_path):
    expected = {"default": {"task": "set"}, "other": {"task": "lime", "seed": 3, "vocabulary": 512}}
    for config, keywords in expected.items():
        loaded = load_dataset(
            str(built), *([config] if config != "default" else []), cache_dir=str(tmp_path)
        )
        assert {split: len(rows) for split, rows in loaded.items()} == SMALL
        for split, rows in loaded.items():
            table = generate(**keywords, start=0, stop=SMALL[split], split=split)
            assert rows.features.arrow_schema.types == table.schema.types
            assert rows.to_list() == table.to_pylist()
    streamed = load_dataset(str(built), "other", split="validation", streaming=True)
    assert (
        list(streamed)
        == generate("lime", 0, 1000, split="validation", seed=3, vocabulary=512).to_pylist()
    )
    (built / "data" / "train-00001-of-00003.parquet").rename(tmp_path / "away")
    try:
        with pytest.raises(NonMatchingSplitsSizesError):
            load_dataset(str(built), cache_dir=str(tmp_path / "fresh"))
    finally:
        (tmp_path / "away").rename(built / "data" / "train-00001-of-00003.parquet")


def test_rebuilding_from_the_card(built, tmp_path, capsys):
    assert (
        main(["generate", "--from-card", str(built), "--output_dir", str(tmp_path / "again")]) == 0
    )
    out = capsys.readouterr().out
    assert "default/train: 4,300 rows rebuilt; they equal the card's sha256" in out
    assert "rows are generated and compared; that takes about" in out
    assert f"rows are written to {tmp_path / 'again'}; that takes about" in out
    assert out.count("\n") == 6
    assert {n: c for n, c in content(tmp_path / "again").items() if n != "README.md"} == {
        n: c for n, c in content(built).items() if n != "README.md"
    }


def spoil_row(folder):
    file = folder / "other" / "train-00001-of-00003.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[-1]["labels"][0] += 1
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)


def spoil_sha(folder):
    digest = read_configs(folder)["default"]["splits"]["train"]["sha256"]
    card = folder / "README.md"
    card.write_text(card.read_text().replace(digest, "f" * 64))


SPOILED = {
    "a row": (
        spoil_row,
        "other/train-00001-of-00003.parquet: differs from the rebuilt rows, "
        "first in the 1,000 rows from 2,000",
    ),
    "a missing shard": (
        lambda f: (f / "data" / "validation-00000-of-00001.parquet").unlink(),
        "validation-00000-of-00001.parquet: is missing",
    ),
    "a cut shard": (
        lambda f: (f / "data" / "train-00000-of-00003.parquet").write_bytes(b"PAR1"),
        "train-00000-of-00003.parquet is not a complete Parquet file",
    ),
    "a shard too many": (
        lambda f: (f / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1"),
        "data/train-00000-of-00001.parquet: is no shard of the card's recipe",
    ),
    "the card's sha256": (spoil_sha, f"the card says {'f' * 64}"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_differs_from_the_card_is_named(what, built, tmp_path, capsys):
    spoil, message = SPOILED[what]
    spoil(copy_dataset(built, tmp_path / "own"))
    assert main(["generate", "--from-card", str(tmp_path / "own")]) == 1
    assert message in capsys.readouterr().out


# Each line is nine times the line before.
ALIASES = "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 9))
CARDS = {
    "no card": ("", "has no card with a recipe of hf_synpre"),
    "no recipe": ("---\nlicense: mit\n---\n", "has no card with a recipe of hf_synpre"),
    "python in YAML": (
        "---\nsynpre: !!python/object/apply:os.system [touch pwned]\n---\n",
        "README.md is not valid YAML: could not determine a constructor",
    ),
    "aliases of aliases": (
        f"---\na0: &a0 [1, 2]\n{ALIASES}synpre: {{configs: *a8}}\n---\n",
        "it has more than 50,000 values",
    ),
    "too many shards": ("shards: 100000", "without a number of shards and a sha256"),
    "a path": ("name: ../../evil", "The configuration '../../evil' becomes a folder's name"),
    "an absolute path": (
        "name: /tmp/evil",
        "The configuration '/tmp/evil' becomes a folder's name",
    ),
    "another version": ("version: 99", "wants set version 99, hf_synpre"),
    "an unknown task": ("task: sett", "Unknown task 'sett'. Did you mean 'set'?"),
    "an unknown split": ("split: dev", "Unknown split 'dev'"),
    "a split like a path": ("split: ../x", "Unknown split '../x'"),
    "no rows": ("rows: 0", "has size 0; give a number of rows >= 1"),
    "no sha256": ("sha256: abc", "without a number of shards and a sha256"),
    "a parameter": ("parameters: {min_lenght: 3}", "Did you mean 'min_length'?"),
    "a seed": ("seed: -1", "seed is -1"),
    "a vocabulary": ("vocabulary: t6", "Unknown vocabulary 't6'"),
}


@pytest.mark.parametrize("what", CARDS)
def test_cards_from_anybody_are_checked(what, tmp_path, monkeypatch, capsys):
    text, message = CARDS[what]
    parts = {
        "name": "default",
        "task": "set",
        "version": "1",
        "seed": "0",
        "parameters": "{}",
        "vocabulary": "t5",
    }
    parts |= {"split": "train", "rows": "5", "shards": "1", "sha256": "0" * 64}
    if not text.startswith("-") and text:
        parts |= dict([text.split(": ", 1)])
        head = [
            f"{key}: {parts[key]}"
            for key in ("task", "version", "seed", "parameters", "vocabulary")
        ]
        rows = f"{{rows: {parts['rows']}, shards: {parts['shards']}, sha256: '{parts['sha256']}'}}"
        split = f"splits: {{{parts['split']}: {rows}}}"
        text = (
            f"---\nsynpre: {{configs: {{{parts['name']}: {{{', '.join([*head, split])}}}}}}}\n---\n"
        )
    folder = tmp_path / "somebody" / "s"
    folder.mkdir(parents=True)
    if text:
        (folder / "README.md").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            ["generate", "--from-card", str(folder), "--output_dir", str(tmp_path / "out" / "deep")]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.rglob("*")] == [
        "somebody",
        "s",
        *(["README.md"] if text else []),
    ]


def test_a_card_of_more_rows_than_its_shards_have_is_not_generated(built, tmp_path, capsys):
    folder = copy_dataset(built, tmp_path / "own")
    card = folder / "README.md"
    text = card.read_text()
    card.write_text(text.replace("rows: 4300", f"rows: {2**39}").replace("shards: 3", "shards: 2"))
    assert main(["generate", "--from-card", str(folder), "--config", "default"]) == 1
    out = capsys.readouterr().out
    assert "1,000 rows are generated and compared; that takes about 1 second.\n" in out
    assert "data/train-00000-of-00002.parquet: is missing\n" in out


BAD_BUILDS = [
    (["sett"], "Unknown dataset 'sett'. Did you mean 'set'?"),
    (["nowhere.yaml"], "There is no file nowhere.yaml"),
    (["set", "--config", "smal"], "Unknown configuration 'smal'. Did you mean 'small'?"),
    (["set", "--num_shards", "0"], "num_shards is 0"),
    (["set", "--shard_index", "0"], "shard_index is 0 with num_shards None"),
    (["set", "--num_shards", "2", "--shard_index", "2"], "give 0 <= shard_index < num_shards"),
    (["set", "--repo_id", "../set"], "is no namespace/name"),
    (["set", "--repo_id", "set"], "is no namespace/name"),
]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(HOME / "dataset_scripts"))
    import build

    return build.main


@pytest.mark.parametrize(
    ("words", "message"), BAD_BUILDS, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_bad_builds_are_one_clear_line(words, message, script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert script([*words, "--output_dir", "out"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_folders_of_another_build_are_refused(script, built, recipe, tmp_path, capsys):
    folder = copy_dataset(built, tmp_path / "own")
    words = ["--output_dir", str(folder)]
    assert script([recipe, "--num_shards", "2", *words]) == 2
    assert "is not of this build" in capsys.readouterr().err
    changed = tmp_path / "changed.yaml"
    changed.write_text(Path(recipe).read_text().replace("task: set", "task: set, seed: 1"))
    assert script([str(changed), "--num_shards", "3", *words]) == 2
    assert "was built with another recipe" in capsys.readouterr().err
    pq.write_table(pa.table({"a": [1]}), folder / "data" / "train-00000-of-00003.parquet")
    assert script([recipe, "--num_shards", "3", *words]) == 2
    assert "is not a shard that hf_synpre built" in capsys.readouterr().err


def test_a_card_says_how_low_the_loss_of_a_model_can_be(built):
    text = (built / "README.md").read_text()
    assert "min_length=10 | 0: what is scored follows from what is read |" in text
    assert text.split("| other | 3 | 512 |")[1].splitlines()[0].endswith("| not known |")
    dyck = {"task": "k_dyck", "vocabulary": 64, "parameters": {"length": 24, "types": 4}}
    losses = cards.lowest_losses({"default": dyck, "short": dyck})
    assert losses["default"] == losses["short"]
    assert re.fullmatch(r"1\.\d{3} ± 0\.\d{3} nats per scored token", losses["default"])


def test_an_incomplete_folder_gets_no_card_and_is_not_pushed(built, tmp_path):
    folder = copy_dataset(built, tmp_path / "own")
    (folder / "other" / "train-00002-of-00003.parquet").unlink()
    (folder / "README.md").unlink()
    assert cards.write_dataset_card(folder, "me/own")
    assert "config_name: other" not in (folder / "README.md").read_text()
    assert not any(name.startswith("other/") for name in hub.plan_push(folder, "me/own").files)
