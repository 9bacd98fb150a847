"""The code blocks of README.md from a wheel, in a fresh environment, outside of the clone.

Run: pytest tests/test_first_screen.py
"""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

SNIPPETS = Path(__file__).with_name("test_snippets.py")


def run(*words, **options):
    """Run a command without the clone on its path; return what it printed."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, capture_output=True, text=True, env=outside, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_blocks_of_readme_run_from_a_wheel_in_a_fresh_environment(wheel, tmp_path):
    # The libraries come from the environment of the tests, hf_synpre from the wheel alone.
    environment = tmp_path / "environment"
    venv.create(environment)
    python = str(environment / "bin" / "python")
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    install = ["install", "-q", "--no-deps", "--no-index", str(wheel)]
    run(sys.executable, "-m", "pip", "--python", python, *install)

    found = run(python, "-c", "import hf_synpre; print(hf_synpre.__file__)", cwd=tmp_path)
    assert found.startswith(str(packages))
    run(str(environment / "bin" / "synpre"), "--version", cwd=tmp_path)
    test = f"{SNIPPETS}::test_the_blocks_of_a_page_run[README.md]"
    run(python, "-m", "pytest", "-p", "no:cacheprovider", test, cwd=tmp_path)
