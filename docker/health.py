"""Exit with 0 if an address answers: ``health.py ADDRESS [STATUS]``.

``tcp://host:port`` is asked for a connection, ``http[s]://host:port/path`` for a page.
"""

import socket
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

_AUTHORITY = "/keys/tls/ca.crt"
_SECONDS = 5


def healthy(address: str, wanted: int) -> bool:
    """Whether a port takes connections, or a page has the status that is ``wanted``."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "tcp":
        with socket.create_connection((parts.hostname, parts.port), timeout=_SECONDS):
            return True
    context = ssl.create_default_context(cafile=_AUTHORITY) if parts.scheme == "https" else None
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS, context=context) as answer:
            return int(answer.status) == wanted
    except urllib.error.HTTPError as answer:
        return answer.code == wanted


if __name__ == "__main__":
    try:
        answered = healthy(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200)
    except OSError as error:
        sys.exit(str(error))
    sys.exit(0 if answered else 1)
