"""Speed of measuring a checkpoint and of StatisticsInit, beside reading the files and random init.

    python benchmarks/parameter_statistics.py [--gigabytes 2] [--repeats 5]
    -> results/parameter_statistics.json

A sharded checkpoint is made in a temporary folder, in float32 and in bfloat16. Two readings of its
files stand beside measuring it: "tensors" reads every tensor into memory with safetensors, "bytes"
reads the files into one small buffer and does nothing with it, the least that any program can do.
"warm" has the files in the page cache, where reading is copying memory; "cold" has them dropped
from it first, where the system allows. The jobs take turns; a ratio is the median over the repeats
of measuring / reading in the same turn. Peak memory is that of a process of its own which measures
the checkpoint once: what it adds to the peak after importing, and the whole.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForSeq2SeqLM, T5Config

from hf_synpre.files import write_json
from hf_synpre.initialization import ParameterStatistics, StatisticsInit, build, measure
from hf_synpre.initialization.moments import CHUNK
from hf_synpre.initialization.weight_files import INDEX_FILE, weight_files

RESULT = Path(__file__).parent / "results" / "parameter_statistics.json"
SHAPES = [(32000, 2048), *[(4096, 4096)] * 4, *[(4096,)] * 4]  # of one shard: 524 MB in float32


def make_checkpoint(folder: Path, gigabytes: float, dtype: torch.dtype) -> None:
    """Write shards of SHAPES, and their index, until there are `gigabytes`."""
    index: dict[str, str] = {}
    generator, written = torch.Generator().manual_seed(0), 0
    while written < gigabytes * 1e9:
        file = folder / f"model-{len(index):05d}.safetensors"
        names = [f"layers.{len(index) + i}.weight" for i in range(len(SHAPES))]
        tensors = {
            n: torch.empty(s).normal_(0.1, 1, generator=generator).to(dtype)
            for n, s in zip(names, SHAPES, strict=True)
        }
        save_file(tensors, file)
        index |= dict.fromkeys(names, file.name)
        written += file.stat().st_size
    os.sync()
    write_json(folder / INDEX_FILE, {"weight_map": index})


def read_bytes(files: list[Path]) -> None:
    """Read the files whole into one buffer."""
    buffer = bytearray(CHUNK)
    for file in files:
        with open(file, "rb") as stream:
            while stream.readinto(buffer):
                pass


def read_tensors(files: list[Path]) -> None:
    """Read every tensor of the files into memory, one at a time."""
    for file in files:
        with safe_open(file, framework="pt") as reader:
            for name in reader.keys():  # noqa: SIM118 - a reader, not a dict
                reader.get_tensor(name).clone()


def drop(files: list[Path]) -> None:
    """Ask the system to forget the files' pages."""
    for file in files:
        with open(file, "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(job: Callable[[], object]) -> float:
    """Return the wall time of a job."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def compare(
    repeats: int, before: Callable[[], object], **jobs: Callable[[], object]
) -> dict[str, float]:
    """Time jobs that take turns: median seconds of each, median ratio of the last to each."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            before()
            times[name].append(seconds(job))
    found = {f"{name}_s": round(float(np.median(values)), 3) for name, values in times.items()}
    *others, last = times
    return found | {
        f"to_{name}": round(float(np.median(np.divide(times[last], times[name]))), 3)
        for name in others
    }


def peak_memory(folder: Path) -> dict[str, float]:
    """Return what measuring adds to the peak memory of a process, and the whole peak, in MB."""
    ask = [sys.executable, __file__, "--measure", str(folder)]
    added, whole = json.loads(
        subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    )
    return {"added_mb": added, "whole_mb": whole}


def measure_once(folder: Path) -> None:
    """Measure a checkpoint and print [MB added to the peak by it, peak MB]."""
    before = peak_mb()
    measure(weight_files(folder))
    print(json.dumps([round(peak_mb() - before, 1), round(peak_mb(), 1)]))


def peak_mb() -> float:
    """Return the peak resident memory of the program itself, in MB, unlike getrusage's."""
    line = next(
        text
        for text in Path("/proc/self/status").read_text().splitlines()
        if text.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def streaming(dtype: torch.dtype, gigabytes: float, repeats: int) -> dict:
    """Return the figures of one checkpoint."""
    with tempfile.TemporaryDirectory() as place:
        make_checkpoint(Path(place), gigabytes, dtype)
        files = weight_files(Path(place))
        jobs = {
            "bytes": lambda: read_bytes(files),
            "tensors": lambda: read_tensors(files),
            "measure": lambda: measure(files),
        }
        found = {
            "gigabytes": round(sum(f.stat().st_size for f in files) / 1e9, 2),
            "files": len(files),
            "largest_tensor_mb": round(32000 * 2048 * dtype.itemsize / 1e6),
            "warm": compare(repeats, lambda: None, **jobs),
        }
        if hasattr(os, "posix_fadvise"):
            found["cold"] = compare(repeats, lambda: drop(files), **jobs)
        return found | {"peak_memory": peak_memory(Path(place))}


def initialising(repeats: int) -> dict:
    """Return the seconds of starting a T5-small: transformers' random init, and from statistics."""
    config = T5Config()
    source = ParameterStatistics.from_model(
        build(AutoModelForSeq2SeqLM, config, {}, 0), "t5-small, random"
    )
    found = {}
    for scheme in ("per_param_mean_sd", "whole_model_scale"):
        factory = StatisticsInit(AutoModelForSeq2SeqLM, scheme=scheme)
        jobs = {
            "transformers": lambda: AutoModelForSeq2SeqLM.from_config(config),
            "statistics": lambda factory=factory: factory.from_config(config, source),
        }
        found[scheme] = compare(repeats, lambda: None, **jobs)
    return found


def main() -> None:
    """Measure all and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--gigabytes", type=float, default=2.0, help="size of the checkpoint in each dtype"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", help="measure one checkpoint's memory and nothing else")
    options = parser.parse_args()
    if options.measure:
        measure_once(Path(options.measure))
        return
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    result = {
        "streaming": {
            str(d)[6:]: streaming(d, options.gigabytes, options.repeats)
            for d in (torch.float32, torch.bfloat16)
        },
        "init_t5_small": initialising(options.repeats),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "machine": platform.machine(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
