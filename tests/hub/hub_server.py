"""A stand-in of the Hugging Face Hub's HTTP API, in memory, for unmodified clients.

    python tests/hub/hub_server.py        prints its address, serves until it is killed

Clients need HF_ENDPOINT (the address) and HF_HUB_DISABLE_XET=1 (classic LFS uploads) before they
are imported. It has the endpoints that huggingface_hub, datasets and transformers really call: who
am I, create, preupload, LFS, commit, resolve (large files are sent from another host name, as on
the Hub), info, tree, paths, refs, tags. As on the Hub,

- a commit is applied whole or not at all: its body is read and checked before anything changes,
  LFS files must have arrived whole, and a parent commit that is not the head is refused (412);
- who may not see a repository is told that there is none: 401 without a valid token, 404 with one;
- a repository or a tag that exists is 409, another's namespace 403, an unknown revision or file 404
  with X-Error-Code.

Tests steer it: POST /stand-in/break {"what": "put" | "commit" | "answer", "times": n} cuts the
connection in the middle of the next n uploads, inside the commit's body, or after the commit. POST
/stand-in/break {"what": "refuse", "path": p, "status": s, "answer": {...}} answers s to every
request whose path has p in it, until p is "". GET /stand-in/log lists requests and repositories.
"""

import base64
import hashlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKENS = {  # token -> (user, may write)
    "hf_standinwriteAAAAAAAAAAAAAAAAAAAAAAAA": ("synpre", True),
    "hf_standinreadBBBBBBBBBBBBBBBBBBBBBBBBB": ("synpre", False),
    "hf_standinotherCCCCCCCCCCCCCCCCCCCCCCCC": ("somebody", True),
}
LARGE = (".safetensors", ".parquet", ".arrow", ".bin", ".h5", ".model")


@dataclass(frozen=True)
class File:
    """One version of a file; `oid` is git's hash of a small file, the sha256 of a large one."""

    content: bytes
    large: bool

    @property
    def oid(self) -> str:
        if self.large:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    def metadata(self, path: str) -> dict:
        """Return what the endpoints tree and paths-info say of the file."""
        lfs = (
            {"lfs": {"oid": self.oid, "size": len(self.content), "pointerSize": 134}}
            if self.large
            else {}
        )
        return {
            "type": "file",
            "path": path,
            "size": len(self.content),
            "oid": self.oid[:40],
            **lfs,
        }


@dataclass
class Repo:
    """A repository: every commit keeps its whole list of files."""

    kind: str
    name: str
    private: bool
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    head: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, File], title: str) -> str:
        """Make a commit the head."""
        names = sorted((path, file.oid) for path, file in files.items())
        oid = hashlib.sha1(json.dumps([self.head, title, names]).encode()).hexdigest()
        self.commits[oid] = files
        self.head = oid
        return oid

    def resolve(self, revision: str) -> str:
        """The commit of a branch, tag or commit id."""
        oid = {"main": self.head, **self.tags}.get(revision, revision)
        if oid not in self.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid

    def info(self, revision: str) -> dict:
        """What /api/models/{id} says."""
        oid = self.resolve(revision)
        siblings = [{"rfilename": path} for path in sorted(self.commits[oid])]
        more = {
            "private": self.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
        }
        return {"_id": "0", "id": self.name, "sha": oid, "siblings": siblings, **more}


class Refusal(Exception):  # noqa: N818 - the Hub's no, not an error of the stand-in
    """An error as the Hub sends it."""

    def __init__(self, status: int, code: str, message: str, **more: str):
        super().__init__(message)
        self.status, self.code, self.more = status, code, more


class Hub:
    """All that the stand-in remembers."""

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}  # sha256 -> content that has arrived whole
        self.log: list[str] = []
        self.breaks: dict[str, int] = {}
        self.refused: dict = {"path": ""}  # the requests that are refused, and how
        self.lock = threading.Lock()

    def breaks_now(self, what: str) -> bool:
        """Say whether this transfer is to be cut."""
        with self.lock:
            left = self.breaks.get(what, 0)
            self.breaks[what] = max(0, left - 1)
            return left > 0

    def repo(self, kind: str, name: str, user: str | None) -> Repo:
        """The repository, if it is there and the user may see it."""
        repo = self.repos.get((kind, name))
        if repo is None or (repo.private and name.split("/")[0] != user):
            raise Refusal(404 if user else 401, "RepoNotFound", "Repository not found")
        return repo


class Handler(BaseHTTPRequestHandler):
    """The routes."""

    protocol_version = "HTTP/1.1"
    hub: Hub
    ROUTES = (  # method, path, name of the method here
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/(models|datasets)/([^/]+/[^/]+)/preupload/([^/]+)", "preupload"),
        ("POST", r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/([0-9a-f]{64})", "lfs_put"),
        ("POST", r"/api/(models|datasets)/([^/]+/[^/]+)/commit/([^/]+)", "commit"),
        ("GET", r"/api/(models|datasets)/([^/]+/[^/]+)", "info"),
        ("GET", r"/api/(models|datasets)/([^/]+/[^/]+)/revision/([^/]+)", "info"),
        ("GET", r"/api/(models|datasets)/([^/]+/[^/]+)/refs", "refs"),
        ("GET", r"/api/(models|datasets)/([^/]+/[^/]+)/tree/([^/]+)(?:/(.+))?", "tree"),
        ("POST", r"/api/(models|datasets)/([^/]+/[^/]+)/paths-info/([^/]+)", "paths_info"),
        ("POST", r"/api/(models|datasets)/([^/]+/[^/]+)/tag/([^/]+)", "tag"),
        ("(?:GET|HEAD)", r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
        ("(?:GET|HEAD)", r"/cdn/([0-9a-f]{64})", "cdn"),
        ("POST", r"/stand-in/break", "steer"),
        ("GET", r"/stand-in/log", "show_log"),
    )

    def handle_one(self) -> None:
        """Find the route, answer, or say what the Hub would."""
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.hub.log.append(f"{self.command} {url.path}")
        try:
            self.user, self.may_write = self.who()
            given = self.hub.refused
            if given["path"] and given["path"] in url.path:
                raise Refusal(given["status"], "", "refused by a test", **given["answer"])
            for method, path, name in self.ROUTES:
                found = re.fullmatch(path, url.path)
                if found and re.fullmatch(method, self.command):
                    return getattr(self, name)(*(part and unquote(part) for part in found.groups()))
            raise Refusal(404, "", f"The stand-in has no {self.command} {url.path}")
        except Refusal as refusal:
            self.read_body()
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)}
            if refusal.status == 429:
                headers["Retry-After"] = "7"
            self.answer({"error": str(refusal), **refusal.more}, refusal.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = handle_one  # noqa: N815 - http.server's names

    # --- plumbing ---------------------------------------------------------------------------------

    def who(self) -> tuple[str | None, bool]:
        """The user of the token and whether it may write; a wrong token is refused."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise Refusal(401, "", "Invalid username or password.")
        return TOKENS.get(token, (None, False))

    def writable(self, kind: str, name: str) -> Repo:
        """The repository, if the user may change it."""
        repo = self.hub.repo(kind, name, self.user)
        if self.user is None:
            raise Refusal(401, "", "Invalid username or password.")
        if not self.may_write or name.split("/")[0] != self.user:
            raise Refusal(403, "", "You don't have the rights to do this.")
        return repo

    def read_body(self) -> bytes:
        """The request's body, once, however it is framed."""
        if "body" not in self.__dict__:
            size = self.headers.get("Content-Length")
            self.body = self.rfile.read(int(size)) if size else b"".join(self.chunks())
        return self.body

    def chunks(self):
        """The parts of a chunked body."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

    def cut(self, what: str) -> bool:
        """If a test wants it: read half of the body, then drop the line. Says whether it did."""
        if not self.hub.breaks_now(what):
            return False
        self.rfile.read(int(self.headers.get("Content-Length") or 2) // 2)
        self.close_connection = True
        return True

    def answer(self, value: object, status: int = 200, headers: dict | None = None) -> None:
        """Send JSON, or bytes as they are."""
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "Content-Length": str(len(content)),
            "Accept-Ranges": "bytes",
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def handle_one_request(self) -> None:
        self.__dict__.pop("body", None)
        super().handle_one_request()

    def log_message(self, *args) -> None:
        pass

    # --- routes -----------------------------------------------------------------------------------

    def whoami(self) -> None:
        if self.user is None:
            raise Refusal(401, "", "Invalid username or password.")
        token = {"accessToken": {"role": "write"}}
        self.answer({"type": "user", "name": self.user, "orgs": [], "auth": token})

    def validate_yaml(self) -> None:
        content = json.loads(self.read_body())["content"]
        head = re.match(r"---\n(.*?)\n---", content, re.DOTALL)
        try:
            good = isinstance(yaml.safe_load(head.group(1)), dict) if head else True
        except yaml.YAMLError:
            good = False
        self.answer(
            {"errors": [] if good else [{"message": "Invalid YAML"}], "warnings": []},
            200 if good else 400,
        )

    def create(self) -> None:
        given = json.loads(self.read_body())
        owner, kind = given.get("organization") or self.user, given.get("type") or "model"
        if self.user is None:
            raise Refusal(401, "", "Invalid username or password.")
        if not self.may_write or owner != self.user:
            raise Refusal(403, "", f"You don't have the rights to create a {kind} for {owner}.")
        key = kind + "s", f"{owner}/{given['name']}"
        url = f"{self.address()}/{'' if kind == 'model' else kind + 's/'}{key[1]}"
        with self.hub.lock:
            if key in self.hub.repos:
                raise Refusal(409, "", f"You already created this {kind} repo", url=url)
            private = bool(given.get("private")) or given.get("visibility") == "private"
            self.hub.repos[key] = Repo(*key, private)
            self.hub.repos[key].commit(
                {".gitattributes": File(b"*.parquet filter=lfs\n", False)}, "initial commit"
            )
        self.answer({"url": url, "name": key[1], "id": key[1]})

    def preupload(self, kind: str, name: str, revision: str) -> None:
        repo, given = self.writable(kind, name), json.loads(self.read_body())
        files = repo.commits[repo.resolve(revision)]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs"
                if file["path"].endswith(LARGE) or file["size"] > 10_000_000
                else "regular",
                "shouldIgnore": False,
                "oid": files[file["path"]].oid if file["path"] in files else None,
            }
            for file in given["files"]
        ]
        self.answer({"files": modes})

    def lfs_batch(self, prefix: str | None, name: str) -> None:
        self.writable("datasets" if prefix else "models", name)
        objects = []
        for wanted in json.loads(self.read_body())["objects"]:
            upload = {"upload": {"href": f"{self.address()}/lfs/{wanted['oid']}", "header": {}}}
            there = wanted["oid"] in self.hub.large
            objects.append(
                {
                    "oid": wanted["oid"],
                    "size": wanted["size"],
                    **({} if there else {"actions": upload}),
                }
            )
        self.answer({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if self.cut("put"):
            return
        content = self.read_body()
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, "", "The content is not what its sha256 says.")
        self.hub.large[oid] = content
        self.answer({})

    def commit(self, kind: str, name: str, revision: str) -> None:
        repo = self.writable(kind, name)
        if self.cut("commit"):
            return
        lines = [json.loads(line) for line in self.read_body().splitlines()]
        with self.hub.lock:
            if lines[0]["value"].get("parentCommit", repo.head) != repo.head:
                raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
            files = dict(repo.commits[repo.resolve(revision)])
            for line in lines[1:]:
                self.change(files, line["key"], line["value"])
            oid = repo.commit(files, lines[0]["value"]["summary"])
        if self.hub.breaks_now("answer"):
            self.close_connection = True
            return
        url = f"{self.address()}/{name}/commit/{oid}"
        self.answer({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def change(self, files: dict[str, File], key: str, value: dict) -> None:
        """Apply one line of a commit to a list of files."""
        path = value["path"]
        if path.startswith("/") or ".." in path.split("/"):
            raise Refusal(400, "", f"Invalid path: {path}")
        if key == "file":
            files[path] = File(base64.b64decode(value["content"]), False)
        elif key == "lfsFile":
            content = self.hub.large.get(value["oid"])
            if content is None or len(content) != value["size"]:
                raise Refusal(400, "", f"The LFS object of {path} was not uploaded.")
            files[path] = File(content, True)
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Refusal(404, "EntryNotFound", "A file with this name doesn't exist")
        else:
            raise Refusal(400, "", f"The stand-in does not know {key}.")

    def info(self, kind: str, name: str, revision: str = "main") -> None:
        self.answer(self.hub.repo(kind, name, self.user).info(revision))

    def refs(self, kind: str, name: str) -> None:
        repo = self.hub.repo(kind, name, self.user)
        tags = [
            {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid}
            for tag, oid in repo.tags.items()
        ]
        head = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}
        self.answer({"branches": [head], "tags": tags, "converts": []})

    def tag(self, kind: str, name: str, revision: str) -> None:
        repo, given = self.writable(kind, name), json.loads(self.read_body())
        if given["tag"] in repo.tags:
            raise Refusal(409, "", "Tag reference exists already")
        repo.tags[given["tag"]] = repo.resolve(revision)
        self.answer({})

    def tree(self, kind: str, name: str, revision: str, folder: str | None = None) -> None:
        repo = self.hub.repo(kind, name, self.user)
        files = repo.commits[repo.resolve(revision)]
        top = f"{folder.rstrip('/')}/" if folder else ""
        below = {path: file for path, file in files.items() if path.startswith(top)}
        if folder and not below:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        deep = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folders = sorted(
            {top + path[len(top) :].split("/")[0] for path in below if "/" in path[len(top) :]}
        )
        shown = [
            f.metadata(path)
            for path, f in sorted(below.items())
            if deep or "/" not in path[len(top) :]
        ]
        self.answer(
            [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
            + shown
        )

    def paths_info(self, kind: str, name: str, revision: str) -> None:
        repo, body = self.hub.repo(kind, name, self.user), self.read_body()
        wanted = (
            json.loads(body)["paths"]
            if body.startswith(b"{")
            else parse_qs(body.decode()).get("paths", [])
        )
        files = repo.commits[repo.resolve(revision)]
        found = [files[path].metadata(path) for path in wanted if path in files]
        folders = [
            path
            for path in wanted
            if any(name.startswith(path.rstrip("/") + "/") for name in files)
        ]
        self.answer(
            found
            + [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
        )

    def resolve(self, prefix: str | None, name: str, revision: str, path: str) -> None:
        repo = self.hub.repo("datasets" if prefix else "models", name, self.user)
        oid = repo.resolve(revision)
        file = repo.commits[oid].get(path)
        if file is None:
            raise Refusal(404, "EntryNotFound", f"Entry not found: {path}")
        headers = {"X-Repo-Commit": oid, "ETag": f'"{file.oid}"'}
        if file.large:  # the content is on another host: the token must not follow there
            size, where = str(len(file.content)), self.address().replace("127.0.0.1", "localhost")
            headers |= {
                "X-Linked-ETag": f'"{file.oid}"',
                "X-Linked-Size": size,
                "Location": f"{where}/cdn/{file.oid}",
            }
            return self.answer(b"", 302, headers)
        return self.send_content(file.content, headers)

    def cdn(self, oid: str) -> None:
        if self.user is not None:
            raise Refusal(400, "", "A token came along to the host of the large files.")
        self.send_content(self.hub.large[oid], {"ETag": f'"{oid}"'})

    def send_content(self, content: bytes, headers: dict) -> None:
        """Send a file, or the range that was asked for."""
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
            headers |= {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            return self.answer(content[first : last + 1], 206, headers)
        return self.answer(content, 200, headers)

    def steer(self) -> None:
        given = json.loads(self.read_body())
        if given["what"] == "refuse":
            self.hub.refused = given
        else:
            self.hub.breaks[given["what"]] = given["times"]
        self.answer({})

    def show_log(self) -> None:
        repos = {
            f"{kind}/{name}": sorted(r.commits[r.head])
            for (kind, name), r in self.hub.repos.items()
        }
        commits = {f"{kind}/{name}": len(r.commits) for (kind, name), r in self.hub.repos.items()}
        self.answer(
            {"log": self.hub.log, "repos": repos, "commits": commits, "large": len(self.hub.large)}
        )

    def address(self) -> str:
        """How clients reach the stand-in."""
        return f"http://127.0.0.1:{self.server.server_port}"


def main() -> None:
    """Serve on a free port."""
    Handler.hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
