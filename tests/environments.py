"""Fresh environments with hf_synpre as users install it, and the libraries of the tests."""

import os
import subprocess
import sys
import sysconfig
import venv


def run_outside(*words, **options):
    """Run a command without the clone on its path; return what it printed."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    outside |= options.pop("env", {})
    done = subprocess.run(words, capture_output=True, text=True, env=outside, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install_alone(archive, folder):
    """Make an environment in which hf_synpre comes from an archive alone; return its bin folder.

    Args:
        archive: the wheel or the source archive.
        folder: the folder of the environment; nothing is downloaded into it.
    """
    environment = folder / "environment"
    venv.create(environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    python = environment / "bin" / "python"
    options = ["-q", "--no-deps", "--no-index", "--no-build-isolation", str(archive)]
    run_outside(sys.executable, "-m", "pip", "--python", str(python), "install", *options)

    found = run_outside(python, "-c", "import hf_synpre; print(hf_synpre.__file__)", cwd=folder)
    assert found.startswith(str(packages))
    return environment / "bin"
