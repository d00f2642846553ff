"""Exit with 0 if an address answers: ``health.py ADDRESS``.

``tcp://host:port`` is asked for a connection, ``tls://host:port`` for a certificate of our
authority too, ``http[s]://host:port/path`` for a page.
"""

import socket
import ssl
import sys
import urllib.parse
import urllib.request

_AUTHORITY = "/keys/tls/ca.crt"
_SECONDS = 5


def ask(address: str) -> None:
    """Ask an address.

    Raises
    ------
    OSError
        If it does not answer as it should.
    """
    parts = urllib.parse.urlsplit(address)
    secure = parts.scheme in ("tls", "https")
    context = ssl.create_default_context(cafile=_AUTHORITY) if secure else None
    if parts.scheme.startswith("http"):
        with urllib.request.urlopen(address, timeout=_SECONDS, context=context):
            return
    with socket.create_connection((parts.hostname, parts.port), timeout=_SECONDS) as link:
        if context is not None:
            context.wrap_socket(link, server_hostname=parts.hostname).close()


if __name__ == "__main__":
    try:
        ask(sys.argv[1])
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
