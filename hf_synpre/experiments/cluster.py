"""Jobs on a Ray cluster: what a node held that is lost is done by the others.

Ray's own joblib backend is not used: it makes each worker an actor, and a lost actor ends the run.
"""

import os
import pickle
import queue
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from hf_synpre.errors import TemporaryError, UsageError

# A job whose worker was lost so many times is not tried again.
MOST_ATTEMPTS = 3
# The nodes are looked at after so many seconds.
CHECK_EVERY_S = 1.0
# A cluster whose head does not answer for so long is given up; Ray itself ends the process after
# 60 seconds.
LONGEST_SILENCE_S = 30.0
# What Ray reads from the environment when it is imported. Without these it prints the last lines of
# a lost node's log, and tells its makers that it is used.
QUIET = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": "(?s)^",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# Settings of libraries, such as where the cache is, which workers take over. Tokens stay here.
SETTINGS = ("HF_", "TRANSFORMERS_", "SYNPRE_")

# A function without arguments; it and its result are pickled.
Job = Callable[[], Any]


@contextmanager
def joined_cluster() -> Iterator[None]:
    """Belong to a Ray cluster during the block: that of RAY_ADDRESS, or a new one on this machine.

    A cluster that the process belongs to already is used, and not left.

    Raises:
        UsageError: Ray is not installed.
        TemporaryError: the cluster cannot be joined.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield
        return

    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    except Exception as error:  # Ray raises many kinds
        address = os.environ.get("RAY_ADDRESS", "none")
        cause = " ".join(str(error).split())[:200]
        raise TemporaryError(
            f"Cannot join the Ray cluster (RAY_ADDRESS is {address}): {cause}; see `ray status`, "
            "and the same command goes on."
        ) from error
    # Ray takes SIGTERM to itself, but this process ends its jobs before it ends.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        ray.shutdown()


def import_ray() -> Any:
    """Return the module `ray`, told to be quiet. Raises UsageError if it is not installed."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UsageError(
            "backend is ray, which is not installed; `pip install hf_synpre[ray]`."
        ) from None
    return ray


def cluster_cpus() -> int:
    """Return how many CPUs the living nodes have.

    Raises TemporaryError if there are none, or the cluster does not answer.
    """
    return sum(living_nodes().values())


def living_nodes() -> dict[str, int]:
    """Return the CPUs of each living node that has any, by the node's address and id.

    Raises:
        TemporaryError: there is none, or the cluster does not answer.
    """
    import ray

    # A thread asks: without its head, the cluster keeps whoever asks waiting.
    answers: queue.Queue[list[dict[str, Any]]] = queue.Queue()
    threading.Thread(target=lambda: answers.put(ray.nodes()), daemon=True).start()
    try:
        nodes = answers.get(timeout=LONGEST_SILENCE_S)
    except queue.Empty:
        raise TemporaryError(
            f"The head of the Ray cluster has not answered for {LONGEST_SILENCE_S:.0f} seconds; "
            "start the cluster again, and the same command goes on."
        ) from None

    living = {}
    for node in nodes:
        cpus = int(node["Resources"].get("CPU", 0))
        if node["Alive"] and cpus:
            living[f"{node['NodeManagerAddress']} {node['NodeID'][:8]}"] = cpus
    if not living:
        raise TemporaryError(
            "No node with a CPU is left in the Ray cluster; start nodes (`ray start`), and the "
            "same command goes on."
        )
    return living


def run_on_cluster(jobs: Mapping[str, Job], most: int = -1) -> Iterator[Any]:
    """Run jobs on the nodes of the cluster that this process belongs to.

    A job starts in the folder of this process, finds the same modules, and has the same settings of
    libraries. If its worker or node is lost, it starts again elsewhere. All nodes must see the same
    files.

    Args:
        jobs: name -> job, started in this order.
        most: how many run at the same time; as many as there are CPUs with -1.

    Yields:
        The results, in the order in which the jobs end.

    Raises:
        UsageError: a job raised it; the others are ended.
        TemporaryError: no node is left, or a job was lost MOST_ATTEMPTS times (the others were done
            before).
    """
    import ray
    from ray import exceptions

    # What is raised for a job whose worker or node has gone.
    lost_errors = (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.ObjectLostError,
        exceptions.OutOfMemoryError,
        exceptions.LocalRayletDiedError,
    )

    # Defined here, so that Ray sends it as code and workers import no more than their job needs.
    @ray.remote(num_cpus=1, max_retries=0)
    def work(folder: str, paths: list[str], settings: dict[str, str], packed: bytes) -> Any:
        os.chdir(folder)
        os.environ.update(settings)
        sys.path += [path for path in paths if path not in sys.path]
        return pickle.loads(packed)()

    settings = {}
    for name, value in os.environ.items():
        if name.startswith(SETTINGS) and "TOKEN" not in name:
            settings[name] = value

    waiting = deque(jobs)
    running: dict[Any, str] = {}
    attempts: Counter[str] = Counter()
    given_up: list[str] = []
    nodes = living_nodes()
    try:
        while waiting or running:
            # Give every free CPU a job.
            cpus = sum(nodes.values())
            free = (cpus if most < 0 else min(most, cpus)) - len(running)
            for _ in range(min(free, len(waiting))):
                name = waiting.popleft()
                attempts[name] += 1
                packed = ray.cloudpickle.dumps(jobs[name])
                running[work.remote(os.getcwd(), sys.path, settings, packed)] = name

            # Take all that has ended.
            ray.wait(list(running), timeout=CHECK_EVERY_S)
            ended, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
            lost = {}
            for reference in ended:
                name = running.pop(reference)
                try:
                    result = ray.get(reference)
                except exceptions.RayTaskError as error:
                    raise error.cause from None
                except lost_errors as error:
                    lost[name] = type(error).__name__
                else:
                    yield result

            # What was lost comes first in the queue.
            for name, cause in lost.items():
                if attempts[name] < MOST_ATTEMPTS:
                    waiting.appendleft(name)
                else:
                    given_up.append(f"{name} ({cause})")
            if lost:
                say(f"Lost with a worker or node of the Ray cluster: {', '.join(lost)}.")

            # See which nodes have gone or come.
            before, nodes = nodes, living_nodes()
            for node in before.keys() - nodes.keys():
                say(f"The node {node} of the Ray cluster is gone; {len(nodes)} left.")
    finally:
        for reference in running:
            with suppress(Exception):
                ray.cancel(reference, force=True)

    if given_up:
        raise TemporaryError(
            f"Lost {MOST_ATTEMPTS} times with a worker of the Ray cluster: {', '.join(given_up)}; "
            "give fewer --jobs if memory is short, and the same command goes on."
        )


def say(line: str) -> None:
    """Print a line on standard error, as the progress is."""
    print(line, file=sys.stderr, flush=True)
