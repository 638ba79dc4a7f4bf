# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A small Hugging Face Hub in memory, on 127.0.0.1, for the real client:  python tests/loopback_hub.py 8099

    with LoopbackHub() as hub:
        subprocess.run([sys.executable, "-c", body], env={**os.environ, **hub.environment(home=tmp_path)})
        print(hub.repository("org/vqvae-mnist").files["README.md"].content.decode())

Models, datasets and Spaces; whole-file (LFS) and inline uploads; branches, tags and revisions; public and private
repositories; three users. The client reads its endpoint once, at import, so the test body runs in a process of its own.
Routes and answers are those that huggingface_hub 2.4 calls and reads; uploads through xet are not served.
"""

import base64
import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml


LARGE_FILE = re.compile(r".*\.(safetensors|bin|pt|pkl|parquet|arrow|npy|png|gif|zip)")  # as .gitattributes names them
LARGE_SIZE = 10 * 2**20  # bytes; above it every file is stored whole, whatever its name
SOME_DATE = "2026-01-01T00:00:00.000Z"


# -- what a Hub remembers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class User:
    name: str
    can_write: bool = True
    organizations: tuple[str, ...] = ()

    def owns(self, repo_id: str) -> bool:
        return repo_id.split("/")[0] in (self.name, *self.organizations)


USERS = {
    "hf_owner": User("owner", organizations=("org",)),
    "hf_reader": User("owner", can_write=False, organizations=("org",)),  # a read-only token of the same person
    "hf_stranger": User("stranger"),
}


@dataclass
class File:
    content: bytes
    is_large: bool = False

    @property
    def size(self) -> int:
        return len(self.content)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def blob_id(self) -> str:
        """Git's name of what git stores: the content, or the three-line pointer to a large file."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
        stored = pointer.encode() if self.is_large else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.blob_id

    def describe(self) -> dict:
        """`lfs` is present for large files only: this is how the client tells the two kinds apart."""
        large = {"lfs": {"oid": self.sha256, "sha256": self.sha256, "size": self.size, "pointerSize": 134}}
        return {"size": self.size, "oid": self.blob_id, "blobId": self.blob_id, **(large if self.is_large else {})}


@dataclass
class Commit:
    oid: str
    title: str
    files: dict[str, File]

    def describe(self) -> dict:
        return {"id": self.oid, "title": self.title, "message": "", "date": SOME_DATE, "authors": []}


@dataclass
class Repository:
    kind: str  # "model", "dataset" or "space"
    repo_id: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    history: dict[str, list[Commit]] = field(default_factory=dict)  # branch -> its commits, oldest first
    tags: dict[str, str] = field(default_factory=dict)  # tag -> oid

    def commit(self, files: dict[str, File], title: str, branch: str = "main") -> Commit:
        state = [self.kind, self.repo_id, branch, title, len(self.commits)]
        state += [(path, file.blob_id) for path, file in sorted(files.items())]
        commit = Commit(hashlib.sha1(repr(state).encode()).hexdigest(), title, dict(files))
        self.commits[commit.oid] = commit
        self.history.setdefault(branch, []).append(commit)
        return commit

    def at(self, revision: str) -> Commit:
        """The commit that a branch, a tag or an oid names. Raises HubError 404 RevisionNotFound."""
        if revision in self.history:
            return self.history[revision][-1]
        oid = self.tags.get(revision, revision)
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    @property
    def files(self) -> dict[str, File]:
        """Path -> file at the head of main."""
        return self.at("main").files

    @property
    def titles(self) -> list[str]:
        """Titles of the commits on main, oldest first."""
        return [commit.title for commit in self.history["main"]]


# -- requests and answers ----------------------------------------------------------------------------------------------


class HubError(Exception):
    """An answer that is an error. `code` is the X-Error-Code from which the client chooses its exception."""

    def __init__(self, status: int, message: str, code: str | None = None, **body: Any):
        super().__init__(message)
        named = {"X-Error-Code": code} if code else {}
        self.response = Response({"error": message, **body}, status, {"X-Error-Message": message, **named})


@dataclass
class Response:
    data: Any = field(default_factory=dict)  # bytes are sent as they are, anything else as JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else json.dumps(self.data).encode()

    @property
    def content_type(self) -> str:
        return "application/octet-stream" if isinstance(self.data, bytes) else "application/json"


@dataclass
class Request:
    hub: "LoopbackHub"
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    @property
    def user(self) -> User | None:
        """Who asks; None without a token. Raises HubError 401 for a token that nobody has."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.hub.users.get(token)

    def require_writer(self, repo_id: str) -> User:
        if self.user is None:
            raise HubError(401, "Invalid username or password.")
        if not (self.user.can_write and self.user.owns(repo_id)):
            raise HubError(403, f"You don't have the rights to write under the namespace {repo_id.split('/')[0]}")
        return self.user

    def repository(self, kind: str, repo_id: str, write: bool = False) -> Repository:
        """The repository, if it is there for this user: a private one looks missing to everybody else."""
        repository = self.hub.repositories.get((kind, repo_id))
        visible = repository and (not repository.private or (self.user and self.user.owns(repo_id)))
        if not visible:
            raise HubError(404 if self.user else 401, "Repository not found", "RepoNotFound")
        if write:
            self.require_writer(repo_id)
        return repository


# -- routes ------------------------------------------------------------------------------------------------------------

Handler = Callable[..., Response]
ROUTES: list[tuple[tuple[str, ...], re.Pattern, Handler]] = []
REPO = r"(?P<repo_id>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>model|dataset|space)s/{REPO}"  # /api/models/org/name
SITE = rf"/(?:(?P<kind>dataset|space)s/)?{REPO}"  # /org/name, /datasets/org/name


def route(methods: str, pattern: str) -> Callable[[Handler], Handler]:
    """Let a function answer the requests whose path fits the pattern; named groups become its arguments."""

    def register(handler: Handler) -> Handler:
        ROUTES.append((tuple(methods.split()), re.compile(pattern), handler))
        return handler

    return register


def find_route(method: str, path: str) -> tuple[Handler, dict[str, str]]:
    for methods, pattern, handler in ROUTES:
        match = pattern.fullmatch(path)
        if match and method in methods:
            arguments = match.groupdict()
            if "kind" in arguments:
                arguments["kind"] = arguments["kind"] or "model"
            return handler, arguments
    raise HubError(404, f"No such route: {method} {path}", "NotFound")


@route("GET", "/api/whoami-v2")
def whoami(request: Request) -> Response:
    user = request.user
    if user is None:
        raise HubError(401, "Invalid username or password.")
    role = "write" if user.can_write else "read"
    organizations = [{"name": name} for name in user.organizations]
    return Response({"name": user.name, "type": "user", "orgs": organizations, "auth": {"accessToken": {"role": role}}})


@route("POST", "/api/validate-yaml")
def validate_yaml(request: Request) -> Response:
    """Accepts every block that parses; the real Hub's finer rules are not known here."""
    try:
        read_metadata(request.json["content"])
    except yaml.YAMLError as error:
        return Response({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return Response({"errors": [], "warnings": []})


@route("POST", "/api/repos/create")
def create_repository(request: Request) -> Response:
    wish = request.json
    kind = wish.get("type") or "model"
    repo_id = f"{wish.get('organization') or (request.user and request.user.name)}/{wish['name']}"
    request.require_writer(repo_id)
    url = f"{request.hub.url}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
    if (kind, repo_id) in request.hub.repositories:
        raise HubError(409, f"You already created this {kind} repo", url=url)
    request.hub.add_repository(repo_id, kind, private=wish.get("visibility") == "private" or wish.get("private", False))
    return Response({"url": url})


@route("DELETE", "/api/repos/delete")
def delete_repository(request: Request) -> Response:
    wish = request.json
    repository = request.repository(wish.get("type") or "model", f"{wish['organization']}/{wish['name']}", write=True)
    del request.hub.repositories[repository.kind, repository.repo_id]
    return Response()


@route("POST", rf"{SITE}\.git/info/lfs/objects/batch")
def large_file_batch(request: Request, kind: str, repo_id: str) -> Response:
    """Where each large file is to be put; no `actions` for one that is already there."""
    request.repository(kind, repo_id, write=True)
    verify = f"{request.hub.url}{request.path.removesuffix('batch')}verify"

    def answer(wish: dict) -> dict:
        if wish["oid"] in request.hub.large_files:
            return wish
        upload = f"{request.hub.url}/storage/{wish['oid']}"
        return {**wish, "actions": {"upload": {"href": upload}, "verify": {"href": verify}}}

    return Response({"transfer": "basic", "objects": [answer(wish) for wish in request.json["objects"]]})


@route("PUT", "/storage/(?P<oid>[0-9a-f]{64})")
def put_large_file(request: Request, oid: str) -> Response:
    """The storage behind the Hub: the address itself is the permission, so no token is looked at."""
    file = File(request.body, is_large=True)
    if file.sha256 != oid:
        raise HubError(400, f"{file.size} bytes arrived, whose sha256 is not {oid}")
    request.hub.large_files[oid] = file
    return Response()


@route("POST", rf"{SITE}\.git/info/lfs/objects/verify")
def verify_large_file(request: Request, kind: str, repo_id: str) -> Response:
    wish = request.json
    file = request.hub.large_files.get(wish["oid"])
    if file is None or file.size != wish["size"]:
        raise HubError(422, f"No file of {wish['size']} bytes with sha256 {wish['oid']}")
    return Response()


@route("POST", rf"{API}/preupload/(?P<revision>[^/]+)")
def preupload(request: Request, kind: str, repo_id: str, revision: str) -> Response:
    """How each file is to be sent, and the name of its present content: the client then skips what is unchanged."""
    present = request.repository(kind, repo_id, write=True).at(revision).files

    def answer(wish: dict) -> dict:
        is_large = wish["size"] > LARGE_SIZE or LARGE_FILE.fullmatch(wish["path"])
        oid = {"oid": present[wish["path"]].etag} if wish["path"] in present else {}
        return {"path": wish["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False, **oid}

    return Response({"files": [answer(wish) for wish in request.json["files"]]})


@route("POST", rf"{API}/commit/(?P<revision>[^/]+)")
def create_commit(request: Request, kind: str, repo_id: str, revision: str) -> Response:
    """One commit from a header line and a line an operation; nothing changes unless every line is good."""
    repository = request.repository(kind, repo_id, write=True)
    with request.hub.lock:
        parent = repository.at(revision)
        files, header = dict(parent.files), {}
        for line in request.body.splitlines():
            operation = json.loads(line)
            if operation["key"] == "header":
                header = operation["value"]
            else:
                apply_operation(files, request.hub.large_files, operation["key"], operation["value"])
        if header.get("parentCommit") not in (None, parent.oid):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        commit = repository.commit(files, header["summary"], revision)
    return Response({"commitUrl": f"{request.hub.url}/{repo_id}/commit/{commit.oid}", "commitOid": commit.oid})


def apply_operation(files: dict[str, File], large_files: dict[str, File], key: str, value: dict) -> None:
    path = value["path"]
    if key == "file":
        files[path] = File(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if value["oid"] not in large_files:
            raise HubError(400, f"{path} points to a large file that was never uploaded")
        files[path] = large_files[value["oid"]]
    elif key == "deletedFile":
        if files.pop(path, None) is None:
            raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
    elif key == "deletedFolder":
        for inside in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
            del files[inside]
    else:
        raise HubError(400, f"Unknown operation: {key}")


@route("GET", rf"{API}(?:/revision/(?P<revision>[^/]+))?")
def repository_info(request: Request, kind: str, repo_id: str, revision: str | None) -> Response:
    repository = request.repository(kind, repo_id)
    commit = repository.at(revision or "main")
    card = read_metadata(commit.files["README.md"].content.decode()) if "README.md" in commit.files else {}
    sizes = {path: file.describe() if "blobs" in request.query else {} for path, file in commit.files.items()}
    return Response({
        "_id": "0", "id": repo_id, "author": repo_id.split("/")[0], "sha": commit.oid, "private": repository.private,
        "gated": False, "disabled": False, "downloads": 0, "likes": 0,
        "createdAt": SOME_DATE, "lastModified": SOME_DATE, "cardData": card, "tags": card.get("tags") or [],
        "pipeline_tag": card.get("pipeline_tag"), "library_name": card.get("library_name"),
        "siblings": [{"rfilename": path, **sizes[path]} for path in sorted(sizes)],
    })  # fmt: skip


@route("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
def list_tree(request: Request, kind: str, repo_id: str, revision: str, folder: str | None) -> Response:
    files = request.repository(kind, repo_id).at(revision).files
    prefix = f"{folder}/" if folder else ""
    inside = [path for path in files if path.startswith(prefix)]
    if folder and not inside:
        raise HubError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    deep = request.query.get("recursive", ["false"])[0].lower() == "true"
    below = sorted(path for path in [*inside, *folders_of(inside)] if path.startswith(prefix))
    return Response([describe_path(files, path) for path in below if deep or "/" not in path[len(prefix) :]])


@route("POST", rf"{API}/paths-info/(?P<revision>[^/]+)")
def paths_info(request: Request, kind: str, repo_id: str, revision: str) -> Response:
    """Sizes and names of the paths that exist. The client sends a form, other clients JSON."""
    files = request.repository(kind, repo_id).at(revision).files
    is_json = "json" in request.headers.get("Content-Type", "")
    paths = request.json["paths"] if is_json else parse_qs(request.body.decode()).get("paths", [])
    known = {*files, *folders_of(files)}
    return Response([describe_path(files, path) for path in paths if path in known])


@route("GET HEAD", rf"{SITE}/(?:resolve|raw)/(?P<revision>[^/]+)/(?P<path>.+)")
def download(request: Request, kind: str, repo_id: str, revision: str, path: str) -> Response:
    commit = request.repository(kind, repo_id).at(revision)
    if path not in commit.files:
        error = HubError(404, "Entry not found", "EntryNotFound")
        error.response.headers["X-Repo-Commit"] = commit.oid  # transformers caches "not there" for this commit
        raise error
    file = commit.files[path]
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"', "X-Linked-Size": str(file.size)}
    headers["Accept-Ranges"] = "bytes"
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if wanted is None:
        return Response(file.content, 200, headers)
    first, last = int(wanted[1]), min(int(wanted[2] or file.size - 1), file.size - 1)
    headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
    return Response(file.content[first : last + 1], 206, headers)


@route("GET", rf"{API}/refs")
def list_refs(request: Request, kind: str, repo_id: str) -> Response:
    repository = request.repository(kind, repo_id)

    def answer(kind_of_ref: str, name: str, oid: str) -> dict:
        return {"name": name, "ref": f"refs/{kind_of_ref}/{name}", "targetCommit": oid}

    branches = [answer("heads", name, commits[-1].oid) for name, commits in repository.history.items()]
    tags = [answer("tags", name, oid) for name, oid in repository.tags.items()]
    return Response({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


@route("POST", rf"{API}/branch/(?P<branch>[^/]+)")
def create_branch(request: Request, kind: str, repo_id: str, branch: str) -> Response:
    repository = request.repository(kind, repo_id, write=True)
    if branch in repository.history:
        raise HubError(409, f"Reference already exists: {branch}")
    repository.history[branch] = [repository.at(request.json.get("startingPoint") or "main")]
    return Response(status=201)


@route("POST", rf"{API}/tag/(?P<revision>[^/]+)")
def create_tag(request: Request, kind: str, repo_id: str, revision: str) -> Response:
    repository = request.repository(kind, repo_id, write=True)
    repository.tags[request.json["tag"]] = repository.at(revision).oid
    return Response(status=201)


@route("GET", rf"{API}/commits/(?P<revision>[^/]+)")
def list_commits(request: Request, kind: str, repo_id: str, revision: str) -> Response:
    repository = request.repository(kind, repo_id)
    commits = repository.history.get(revision) or [repository.at(revision)]
    return Response([commit.describe() for commit in reversed(commits)])


@route("PUT", rf"{API}/settings")
def change_settings(request: Request, kind: str, repo_id: str) -> Response:
    repository, wish = request.repository(kind, repo_id, write=True), request.json
    if "visibility" in wish or "private" in wish:
        repository.private = wish.get("visibility") == "private" or bool(wish.get("private"))
    return Response()


def read_metadata(card: str) -> dict:
    """The YAML block between the two `---` lines that open a card."""
    block = re.match(r"---\n(.*?)\n---", card.replace("\r\n", "\n"), re.DOTALL)
    return (yaml.safe_load(block[1]) or {}) if block else {}


def folders_of(paths: Any) -> set[str]:
    return {str(parent) for path in paths for parent in PurePosixPath(path).parents if str(parent) != "."}


def describe_path(files: dict[str, File], path: str) -> dict:
    if path in files:
        return {"type": "file", "path": path, **files[path].describe()}
    return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}


# -- the server --------------------------------------------------------------------------------------------------------


class LoopbackHub(ThreadingHTTPServer):
    """`with LoopbackHub() as hub:` serves until the block ends. `hub.calls` lists the requests, as "GET /api/..."."""

    daemon_threads = True

    def __init__(self, port: int = 0, users: dict[str, User] = USERS):
        super().__init__(("127.0.0.1", port), Connection)
        self.users = users
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large_files: dict[str, File] = {}
        self.calls: list[str] = []
        self.cuts: dict[str, int] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, home: Path | str, token: str | None = "hf_owner") -> dict[str, str]:
        """Variables that send huggingface_hub here; `home` holds its cache. They count only before it is imported."""
        place = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
        return {**place, "HF_TOKEN": token or "", "HF_HUB_DISABLE_XET": "1"}

    def repository(self, repo_id: str, kind: str = "model") -> Repository:
        return self.repositories[kind, repo_id]

    def add_repository(
        self, repo_id: str, kind: str = "model", files: dict[str, bytes] | None = None, private: bool = False
    ) -> Repository:
        """A repository with its first commit, as the Hub makes it (`.gitattributes`), and `files` in a second one."""
        repository = self.repositories[kind, repo_id] = Repository(kind, repo_id, private)
        first = {".gitattributes": File(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")}
        repository.commit(first, "initial commit")
        if files:
            added = {path: File(content, bool(LARGE_FILE.fullmatch(path))) for path, content in files.items()}
            repository.commit({**first, **added}, "add files")
        return repository

    def cut(self, what: str, times: int = 1) -> None:
        """Break the connection in the middle of the next `times` requests whose path contains `what`
        ("/storage/": a large file on its way; "/commit/": the commit itself)."""
        self.cuts[what] = times

    def takes_cut(self, path: str) -> bool:
        with self.lock:
            for what, left in self.cuts.items():
                if what in path and left > 0:
                    self.cuts[what] -= 1
                    return True
        return False

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()


class Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def answer(self) -> None:
        url = urlsplit(self.path)
        self.server.calls.append(f"{self.command} {self.path}")
        if self.server.takes_cut(url.path):
            self.break_off()
            return
        path = unquote(url.path)
        request = Request(self.server, self.command, path, parse_qs(url.query), self.headers, self.read_body())
        try:
            handler, arguments = find_route(self.command, path)
            self.send(handler(request, **arguments))
        except HubError as error:
            self.send(error.response)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def break_off(self) -> None:
        """Read half of the request, then hang up without an answer."""
        self.rfile.read(int(self.headers.get("Content-Length") or 2) // 2)
        self.close_connection = True

    def send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in {"Content-Type": response.content_type, **response.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing: `hub.calls` is the log."""


if __name__ == "__main__":
    server = LoopbackHub(int(sys.argv[1]) if len(sys.argv) > 1 else 8099)
    print(f"HF_ENDPOINT={server.url} HF_HUB_DISABLE_XET=1 HF_TOKEN=hf_owner", flush=True)
    server.serve_forever()
