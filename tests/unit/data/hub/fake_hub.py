"""A hub of data sets on this machine: what the libraries ask it for, answered from folders."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse


@dataclass
class FakeHub:
    """Data sets by name, each with a folder per commit; the newest commit of each."""

    commits: dict[str, dict[str, Path]] = field(default_factory=dict)
    newest: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def push(self, name: str, commit: str, folder: Path) -> None:
        """Make a folder the newest commit of a data set."""
        self.commits.setdefault(name, {})[commit] = folder
        self.newest[name] = commit


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Answer at ``hub.url`` until the block ends."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        yield hub
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        words = unquote(urlparse(self.path).path).strip("/").split("/")
        words = words[1:] if words[0] == "api" else words
        name = "/".join(words[1:3])
        if name not in self.hub.commits:
            self._send_json({"error": "none"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif words[3:4] == ["resolve"]:
            self._answer_file(name, words[4], "/".join(words[5:]))
        else:
            self._answer_api(name, words[3:], asked)

    def log_message(self, *_: object) -> None: ...

    def _answer_api(self, name: str, words: list[str], asked: str) -> None:
        what, below = words[:1], "/".join(words[2:])
        commit = self._commit(name, words[1] if what else "main")
        files = _files(self.hub.commits[name][commit])
        if what in ([], ["revision"]):
            siblings = [{"rfilename": path} for path, file in files.items() if file.is_file()]
            self._send_json({"id": name, "sha": commit, "siblings": siblings, "tags": []})
        elif what == ["tree"]:
            self._send_json([_entry(p, files[p]) for p in files if p.startswith(below)])
        else:
            wanted = json.loads(asked)["paths"] if asked[:1] == "{" else parse_qs(asked)["paths"]
            self._send_json([_entry(path, files[path]) for path in wanted if path in files])

    def _answer_file(self, name: str, revision: str, path: str) -> None:
        commit = self._commit(name, revision)
        file = self.hub.commits[name][commit] / path
        if not file.is_file():
            missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            self._send_json({"error": "no file"}, 404, missing)
            return
        data, status = file.read_bytes(), 200
        headers = {"ETag": f'"{_sha1(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        first, _, last = (self.headers.get("Range") or "").removeprefix("bytes=").partition("-")
        if first:
            end = min(int(last or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{end}/{len(data)}"
            data, status = data[int(first) : end + 1], 206
        self._send(data, status, headers)

    def _commit(self, name: str, revision: str) -> str:
        return self.hub.newest[name] if revision == "main" else revision

    def _send_json(
        self, value: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self._send(json.dumps(value).encode(), status, headers or {})

    def _send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _files(folder: Path) -> dict[str, Path]:
    found = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path for path in found}


def _entry(path: str, file: Path) -> dict[str, object]:
    if file.is_dir():
        return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
    data = file.read_bytes()
    return {"type": "file", "path": path, "size": len(data), "oid": _sha1(data)}


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
