"""A corpus made into token files, beside tokenizers.encode_batch on the same text; peak memory.

    python benchmarks/corpora.py [--megabytes 200] [--sample_megabytes 20] [--folder /tmp/corpora]

The result is benchmarks/results/corpora.json.

The text is Python's own library over and over; in every copy two letters and all digits are
exchanged, so that few words come twice. It is Parquet, one document a source file. The peer encodes
a part of the same documents, a thousand in a call, on the same cores, before and after ours; its
text is in memory and its ids are thrown away. Ours reads the files, encodes, and writes the ids.

Then a small GPT-2 trains on it: seconds from the start of data preparation to the first step, in a
run that makes the token files and in one that finds them. Memory is that of all processes of a run,
every 50 ms: anonymous pages, and apart from them the pages of mapped files, which the system may
take back.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers

from hf_synpre.data import stdlib
from hf_synpre.data.tokenizers import train_tokenizer

RESULT = Path(__file__).parent / "results" / "corpora.json"
LETTERS, DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"
PEER = """
import sys, time, json, resource
import pyarrow.parquet as pq
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1] + "/tokenizer/tokenizer.json")
texts, size = [], 0
for batch in pq.ParquetFile(sys.argv[1] + "/texts/train.parquet").iter_batches(batch_size=64):
    texts += batch["text"].to_pylist()
    size += batch["text"].nbytes
    if size > float(sys.argv[2]) * 1e6:
        break
begun, processor = time.perf_counter(), time.process_time()
for first in range(0, len(texts), 1000):
    tokenizer.encode_batch(texts[first : first + 1000], add_special_tokens=False)
print(json.dumps([size / 1e6, time.perf_counter() - begun, time.process_time() - processor]))
"""
MAKE = """
import sys, time, json
from transformers import PreTrainedTokenizerFast
from hf_synpre.data.corpora import open_corpus
from hf_synpre.data.token_files import corpus_tokens
tokenizer = PreTrainedTokenizerFast.from_pretrained(sys.argv[1] + "/tokenizer")
begun, processor = time.perf_counter(), time.process_time()
corpus = open_corpus(sys.argv[1] + "/texts")
tokens = corpus_tokens(corpus, "train", tokenizer, tokenizer.eos_token_id, 10**15)
print(json.dumps([len(tokens), time.perf_counter() - begun, time.process_time() - processor]))
"""
TRAIN = """
import os, sys, time
from pathlib import Path
from transformers import PreTrainedTokenizerFast
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training import pretraining
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.trainer import SynpreTrainer
folder, ids = sys.argv[1], int(sys.argv[2])
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder + "/tokenizer")
training = {"max_steps": ids // (8 * 256) + 1, "use_cpu": True}
spec = PretrainingSpec(
    corpus=folder + "/texts", objective="causal", window=256, batch_size=8, training=training
)
model = ModelSpec("gpt2", overrides={"n_embd": 64, "n_layer": 2, "n_head": 2})
step = SynpreTrainer.training_step
def first_step(*args, **options):
    step(*args, **options)
    print(time.perf_counter() - begun, flush=True)
    os._exit(0)
SynpreTrainer.training_step = first_step
begun = time.perf_counter()
pretraining.pretrain(spec, model, Path(folder) / f"run-{ids}", tokenizer=tokenizer)
"""


def write_corpus(folder: Path, megabytes: float) -> float:
    """Write the texts and a tokenizer of them; return the million bytes of text."""
    sources = [text for text in stdlib.texts("train") if text]
    train_tokenizer(sources[:150], 16384).save_pretrained(folder / "tokenizer")
    (folder / "texts").mkdir(parents=True)
    validation = pa.table({"text": list(stdlib.texts("validation"))[:20]})
    pq.write_table(validation, folder / "texts" / "validation.parquet")

    rng = np.random.default_rng(0)
    size = 0
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(folder / "texts" / "train.parquet", schema, compression="zstd") as out:
        while size < megabytes * 1e6:
            # A copy: two letters change their places, and the digits.
            first, second = rng.choice(list(LETTERS), 2, replace=False)
            others = "".join(rng.permutation(list(DIGITS)))
            places = str.maketrans(first + second + DIGITS, second + first + others)
            texts = [sources[i].translate(places) for i in rng.permutation(len(sources))]
            for begin in range(0, len(texts), 64):
                table = pa.table({"text": texts[begin : begin + 64]})
                size += table.nbytes
                out.write_table(table)
                if size >= megabytes * 1e6:
                    break
    return size / 1e6


class MemoryPeak(threading.Thread):
    """The most memory that a process and its children had together, in million bytes."""

    def __init__(self, process: subprocess.Popen):
        super().__init__(daemon=True)
        self.process = process
        self.anonymous, self.files = 0.0, 0.0

    def run(self) -> None:
        while self.process.poll() is None:
            sums = {"RssAnon": 0, "RssFile": 0}
            try:
                root = psutil.Process(self.process.pid)
                for process in [root, *root.children(recursive=True)]:
                    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                        name, _, value = line.partition(":")
                        if name in sums:
                            sums[name] += int(value.split()[0])
            except (psutil.Error, OSError):
                continue
            self.anonymous = max(self.anonymous, sums["RssAnon"] * 1024 / 1e6)
            self.files = max(self.files, sums["RssFile"] * 1024 / 1e6)
            time.sleep(0.05)


def child(code: str, *arguments: str) -> tuple[list, MemoryPeak]:
    """Run code in a fresh process; return the JSON of its last line, and its memory."""
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE)
    peak = MemoryPeak(process)
    peak.start()
    output, _ = process.communicate()
    peak.join()
    if process.returncode:
        raise SystemExit(f"a process ended with code {process.returncode}")
    return json.loads(output.decode().splitlines()[-1]), peak


def measure(folder: Path, megabytes: float, sample: float) -> dict[str, float]:
    """Return the figures of one corpus."""
    size = write_corpus(folder, megabytes)
    os.environ["SYNPRE_CACHE"] = str(folder / "cache")

    peers = [child(PEER, str(folder), str(sample))[0]]
    (ids, seconds, processor), made = child(MAKE, str(folder))
    peers.append(child(PEER, str(folder), str(sample))[0])
    second_s, second = child(TRAIN, str(folder), str(ids))
    shutil.rmtree(folder / "cache")
    few = ids // 20
    _, first = child(TRAIN, str(folder), str(few))

    peer = sum(p[0] for p in peers) / sum(p[1] for p in peers)
    peer_processor = sum(p[0] for p in peers) / sum(p[2] for p in peers)
    return {
        "text_megabytes": round(size, 1),
        "tokens": ids,
        "sample_megabytes": round(peers[0][0], 1),
        "ours_megabytes_per_s": round(size / seconds, 2),
        "encode_batch_megabytes_per_s": round(peer, 2),
        "encode_batch_before_and_after": [round(p[0] / p[1], 2) for p in peers],
        "share_of_encode_batch": round(size / seconds / peer, 3),
        "share_of_encode_batch_processor_time": round(size / processor / peer_processor, 3),
        "peak_anonymous_megabytes": round(max(made.anonymous, first.anonymous, second.anonymous)),
        "peak_mapped_file_megabytes": round(max(made.files, first.files, second.files)),
        "first_step_of_second_run_s": round(second_s, 2),
    }


def main() -> None:
    """Measure, write the JSON, print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--sample_megabytes", type=float, default=20)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/corpora"))
    given = parser.parse_args()
    sizes = {}
    # Memory does not grow with the corpus.
    for megabytes in (given.megabytes / 10, given.megabytes):
        folder = given.folder / str(megabytes)
        try:
            sizes[f"{megabytes:g} MB"] = measure(folder, megabytes, given.sample_megabytes)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tokenizers": tokenizers.__version__,
        "load_average": round(os.getloadavg()[0], 1),
    }
    summary = list(sizes.values())[-1]
    RESULT.write_text(
        json.dumps({"summary": summary, "machine": machine, "sizes": sizes}, indent=2) + "\n"
    )
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
