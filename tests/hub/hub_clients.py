"""The stand-in of the Hub in a process of its own, and its clients: processes too.

The clients run unmodified huggingface_hub, datasets and transformers against hub_server.py.
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from hub_server import TOKENS
from processes import run_python

HOME = Path(__file__).parents[2]
END = "\0"  # of what a command says
COMMANDS = """
import json, os, sys, time
time.sleep = lambda seconds: None  # no waiting between huggingface_hub's retries
from hf_synpre.cli import main
codes = []
for token, words in json.loads(sys.argv[1]):
    os.environ["HF_TOKEN"] = token
    codes.append(main(words))
    for stream in (sys.stdout, sys.stderr):
        print(end="\\0", file=stream, flush=True)
print(json.dumps(codes))
"""
WRITE, READ, OTHER = TOKENS
TINY = "d_model=32,d_kv=16,num_heads=2,d_ff=64,num_layers=1,num_decoder_layers=1"


class Server:
    """The stand-in in a process of its own, and clients of it."""

    def __init__(self, folder):
        self.folder, self.said = folder, []
        self.process = subprocess.Popen(
            [sys.executable, HOME / "tests" / "hub" / "hub_server.py"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self.process.stdout.readline().strip()

    def environment(self, token=WRITE, home="home", **variables):
        """What clients need before they import anything."""
        fixed = {
            "HF_ENDPOINT": self.address,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(self.folder / home),
        }
        fixed |= {
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0",
        }
        return os.environ | fixed | {"HF_TOKEN": token, "PYTHONPATH": str(HOME)} | variables

    def run(self, *words, **environment):
        """Run a program; remember what it says."""
        done = run_python(*words, env=self.environment(**environment), cwd=self.folder)
        self.said.append(done.stdout + done.stderr)
        return done

    def client(self, code, **environment):
        """Run Python code; return the JSON that its last line prints."""
        # No waiting between huggingface_hub's retries.
        prelude = "import json, time; time.sleep = lambda seconds: None\n"
        done = self.run("-c", prelude + code, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def commands(self, *commands, **environment):
        """Run commands of synpre one after the other in one process, which imports once.

        Args:
            commands: pairs of a token and the words of a command.

        Returns:
            The exit code, standard output and standard error of each, as of subprocess.run.
        """
        given = json.dumps([(token, list(map(str, words))) for token, words in commands])
        done = self.run("-c", COMMANDS, given, **environment)
        assert done.returncode == 0, done.stderr
        *outputs, codes = done.stdout.split(END)
        *errors, _ = done.stderr.split(END)
        return [
            subprocess.CompletedProcess(words, code, output, error)
            for (_, words), code, output, error in zip(
                commands, json.loads(codes), outputs, errors, strict=True
            )
        ]

    def ask(self, path, value=None):
        """Steer the stand-in, or read its log."""
        request = urllib.request.Request(
            self.address + path, json.dumps(value).encode() if value else None
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def files(self, repo):
        return self.ask("/stand-in/log")["repos"].get(repo)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def push(server, folder, repo_id, *words, **environment):
    """`synpre push` as a process, without waiting between huggingface_hub's retries."""
    code = (
        "import sys, time; time.sleep = lambda seconds: None; "
        "from hf_synpre.cli import main; sys.exit(main())"
    )
    return server.run("-c", code, "push", folder, "--repo_id", repo_id, *words, **environment)
