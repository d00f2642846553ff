"""A stand-in for the HuggingFace hub on the loopback: the routes by which a file is fetched."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40


@dataclass
class Endpoint:
    """Repositories by ``owner/name``, each a folder at one commit; counts what it is asked."""

    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    commit: str = COMMIT
    url: str = ""

    def find(self, path: str) -> tuple[bytes, str]:
        """Return what a route gives, or the hub's word for why there is nothing."""
        asks = path.startswith("/api/models/")
        place = path.removeprefix("/api/models/") if asks else path.lstrip("/")
        repository, _, rest = place.partition("/revision/" if asks else "/resolve/")
        revision, _, name = rest.partition("/")
        if repository not in self.repositories:
            return b"", "RepoNotFound"
        if revision not in ("", "main", "v1", self.commit):
            return b"", "RevisionNotFound"
        if asks:
            return json.dumps({"id": repository, "sha": self.commit}).encode(), ""
        if repository in self.gated:
            return b"", "GatedRepo"
        file = self.repositories[repository] / name
        return (file.read_bytes(), "") if file.is_file() else (b"", "EntryNotFound")


@contextmanager
def hub_endpoint() -> Iterator[Endpoint]:
    """Serve repositories until the end of the block."""
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            state.asked.append(f"{self.command} {self.path}")
            content, why = state.find(self.path)
            self.send_response(403 if why == "GatedRepo" else 404 if why else 200)
            self.send_header("X-Repo-Commit", state.commit)
            if why:
                self.send_header("X-Error-Code", why)
                self.send_header("X-Error-Message", why)
            else:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()
