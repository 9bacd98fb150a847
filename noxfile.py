"""A selection of the tests on every supported Python, with the newest and the lowest libraries.

Run: make matrix. An interpreter that is not installed is skipped, and a line says so.
"""

import nox

nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["newest", "lowest"]

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# One folder or file a room: what depends most on the libraries, in about two minutes.
SELECTION = [
    "tests/test_config.py",
    "tests/tasks",
    "tests/data/test_synthetic.py",
    "tests/initialization/test_statistics_init.py",
    "tests/training/test_trainer.py",
    "tests/report/test_written_report.py",
    "tests/hub/test_cards.py",
]
# Of tests/tasks, what imports neither torch nor transformers.
TASK_TESTS = ["distributions", "streams", "targets", "vocabulary"]
# Libraries of other years warn of what is to come; here it is no error.
OPTIONS = ["-o", "filterwarnings=default"]
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


@nox.session(python=PYTHONS)
def newest(session):
    """Test with the newest versions that setup.py admits."""
    session.install("--upgrade", ".[test]")
    session.run("python", "-m", "pytest", *OPTIONS, *SELECTION, env=ENVIRONMENT)


# The lowest versions are older than the later Pythons.
@nox.session(python=PYTHONS[:1])
def lowest(session):
    """Test with the lowest versions that setup.py admits."""
    session.install("-c", "constraints-lowest.txt", ".", "pytest", "pytest-xdist", "hypothesis")
    session.run("python", "-m", "pytest", *OPTIONS, *SELECTION, env=ENVIRONMENT)


@nox.session(python=PYTHONS)
def tasks(session):
    """Test the synthetic tasks, which need no torch: quick, and little is downloaded."""
    session.install("numpy>=2", "numba>=0.61", "pyarrow>=21", "pyyaml", "datasets", "filelock")
    session.install("pytest", "hypothesis")
    paths = {"PYTHONPATH": "."}
    files = [f"tests/tasks/test_{name}.py" for name in TASK_TESTS]
    session.run("python", "-m", "pytest", *OPTIONS, *files, env=ENVIRONMENT | paths)
