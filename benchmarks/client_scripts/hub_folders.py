"""`hf cache verify` on folders of hf_synpre: python hub_folders.py ROOT TYPE:FOLDER ...

ROOT is the repository, whose tests have a stand-in of the Hub. Each folder (TYPE is model or
dataset) is pushed, downloaded into the cache and into a copy, and all three are verified. Then a
byte of the copy is changed, which `hf` has to find. Prints a result for each folder.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

root, *folders = sys.argv[1:]
sys.path.insert(0, f"{root}/tests/hub")

from hub_clients import Server  # noqa: E402

BIN = Path(sys.executable).parent
CARD = "README.md"


def run(server, *command):
    """Run a command of this environment; return its exit code and what it says."""
    variables = server.environment(PYTHONPATH="")
    command = [str(BIN / command[0]), *map(str, command[1:])]
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def verify(server, kind, name, *where):
    """Return the exit code of `hf cache verify`, and what it says."""
    return run(server, "hf", "cache", "verify", name, "--type", kind, "--format", "human", *where)


def change_a_byte(folder):
    """Change the last byte of the largest file of a folder."""
    largest = max(folder.rglob("*"), key=lambda file: file.stat().st_size * file.is_file())
    content = bytearray(largest.read_bytes())
    content[-1] ^= 1
    largest.write_bytes(content)


def check(server, kind, path):
    """Return the exit codes of every step of a folder, and what was said where one is not 0."""
    folder = Path(path)
    name = f"synpre/{folder.name.replace('--', '-')}"
    copy = folder.with_name(f"{folder.name}-copy")
    whole = "--fail-on-missing-files"
    codes, said = {}, []

    def step(what, result):
        codes[what] = result[0]
        if result[0]:
            said.append(result[1])

    step("push", run(server, "synpre", "push", folder, "--repo_id", name))
    step("download", run(server, "hf", "download", name, "--type", kind))
    step("cache", verify(server, kind, name, whole))
    step("copy", run(server, "hf", "download", name, "--type", kind, "--local-dir", copy))
    step("copy_verified", verify(server, kind, name, whole, "--local-dir", copy))

    # The card of the folder that was pushed names the folder, that on the Hub the repository.
    _, text = verify(server, kind, name, "--local-dir", folder)
    others = [other for other in re.findall(r"^  - (.+): expected ", text, re.M) if other != CARD]

    change_a_byte(copy)
    changed, _ = verify(server, kind, name, whole, "--local-dir", copy)
    return {"folder": path, "codes": codes, "others": others, "changed": changed, "said": said}


server = Server(Path.cwd())
os.environ.pop("HF_HUB_OFFLINE", None)
try:
    found = [check(server, *folder.split(":")) for folder in folders]
finally:
    server.close()
print(json.dumps(found))
