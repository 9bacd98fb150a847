"""Twenty thousand broken or hostile inputs: each is read, or refused in one clear line.

    python benchmarks/fuzz.py [--examples 20000] [--only CSV,cells] [--seconds 500] [--seed 0]

The surfaces and what counts as a failure are those of tests/fuzz. Every surface has a process of
its own, so that its memory is its own. It goes on where it was: results/fuzz.json has the surfaces
that were tried.
"""

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from hf_synpre.files import read_json, write_json
from hf_synpre.versions import versions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "fuzz.json"
sys.path.insert(0, str(ROOT / "tests" / "fuzz"))
# A surface that is not done by then hangs where no signal reaches it.
SECONDS_OF_AN_EXAMPLE = 3


def try_surface(name: str, examples: int, number: int) -> dict[str, Any]:
    """Give examples to a surface; return how many were read and refused, and what failed."""
    from harness import outcome, peak_bytes
    from surfaces import SURFACES

    surface = SURFACES[name]
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}  # where it was raised -> the error and the input

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        value = data.draw(surface.values)
        try:
            counts[outcome(surface, value)] += 1
        except Exception as error:
            counts["failed"] += 1
            failures.setdefault(where(error), f"{error!r:.300} on {value!r:.300}")
        except BaseException as error:
            if type(error).__name__ != "TooLongError":
                raise
            counts["failed"] += 1
            failures.setdefault(where(error), f"too long on {value!r:.300}")

    began = time.perf_counter()
    check()
    return {
        "examples": sum(counts.values()),
        "read": counts["read"],
        "refused": counts["refused"],
        "failed": counts["failed"],
        "failures": failures,
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mb": peak_bytes() >> 20,
    }


def where(error: BaseException) -> str:
    """Return the last line of the package that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "hf_synpre/" in frame.filename]
    frame = (own or frames)[-1]
    return f"{type(error).__name__} {Path(frame.filename).name}:{frame.lineno} {frame.line}"


def in_a_process(name: str, examples: int, number: int) -> dict[str, Any]:
    """Return what `try_surface` returns in a process of its own, a fork of this one."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(try_surface(name, examples, number)))
    child.start()
    sender.close()
    problem = "it hangs"
    try:
        if receiver.poll(60 + SECONDS_OF_AN_EXAMPLE * examples):
            return receiver.recv()
    except EOFError:
        child.join()
        problem = f"it died with exit code {child.exitcode}"
    finally:
        child.kill()
        child.join()
    return {"examples": examples, "failed": 1, "failures": {"process": problem}}


def stored() -> dict[str, Any]:
    """Return what was tried so far."""
    return read_json(RESULTS) if RESULTS.exists() else {"surfaces": {}}


def store(name: str, result: dict[str, Any], number: int) -> dict[str, Any]:
    """Add the result of a surface to the file; return those of all."""
    results = stored()  # another process may have added some
    tried = results["surfaces"]
    tried[name] = result
    results["total"] = {}
    for key in ("examples", "read", "refused", "failed", "seconds"):
        results["total"][key] = round(sum(each.get(key, 0) for each in tried.values()), 1)
    results["total"]["peak_mb"] = max(each.get("peak_mb", 0) for each in tried.values())
    results["seed"] = number
    results["versions"] = versions()
    write_json(RESULTS, results)
    return tried


def run() -> None:
    """Try the surfaces that were not tried."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=20_000, help="over all surfaces")
    parser.add_argument("--only", default="", help="surfaces, which are tried again")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then stop")
    parser.add_argument("--seed", type=int, default=0, help="other inputs")
    options = parser.parse_args()

    from surfaces import SURFACES  # its libraries once, for all processes

    tried = stored()["surfaces"]
    shares = sum(surface.share for surface in SURFACES.values())
    began = time.monotonic()
    for name, surface in SURFACES.items():
        if name not in options.only.split(",") if options.only else name in tried:
            continue
        if time.monotonic() - began > options.seconds:
            break
        count = round(options.examples * surface.share / shares)
        result = in_a_process(name, count, options.seed)
        print(f"{name}: {json.dumps(result, indent=1)}", flush=True)
        tried = store(name, result, options.seed)
    left = [name for name in SURFACES if name not in tried]
    print(f"still to try: {', '.join(left) or 'none'}")


if __name__ == "__main__":
    run()
