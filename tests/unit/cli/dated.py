"""A server that knows nothing but a time of its own."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

HOUR = 3600.0


def date(ahead: float = 0.0) -> str:
    """The ``Date`` of a server whose clock is ahead by so many seconds."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)


class Listening(ThreadingHTTPServer):
    """A server that does not print why a client hangs up."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def server(
    *, ahead: float = 0.0, sent: str | None = None, tls: Path | None = None
) -> Iterator[str]:
    """Serve 403 to everybody, with a ``Date``, as the proxy does; yield ``host:port``."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(403)
            text = date(ahead) if sent is None else sent
            if text:
                self.send_header("Date", text)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    listening = Listening(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "server.crt", tls / "server.key")
        listening.socket = context.wrap_socket(
            listening.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
