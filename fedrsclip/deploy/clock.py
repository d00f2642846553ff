"""The clock of this machine against the federation server's, by the ``Date`` of an HTTP answer.

Flower refuses a SuperNode with a wrong clock in the same words as one with an unknown key.
"""

import os
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, Request, build_opener

from fedrsclip_core.errors import ConfigError, RunError

SERVER_VARIABLE = "FEDRSCLIP_SERVER"
"""Names the server as ``host:port``."""
AUTHORITY_VARIABLE = "FEDRSCLIP_CA"
"""Names the file of the authority that has signed the server's certificate; unset: no TLS."""

REFUSED_AHEAD, REFUSED_BEHIND = 5, 305
"""Seconds by which a SuperNode's clock must be wrong for Flower to refuse it."""

# Below Flower's limits: an answer tells the time to about a second, and clocks drift.
_TOLERATED_AHEAD, _TOLERATED_BEHIND = 4, 240
# A site's start waits for the answer.
_PATIENCE = 4.0
# OpenSSL's numbers of the two mistakes that a wrong clock explains.
_CERTIFICATE_TIMES = {9: "is not valid yet", 10: "has expired"}


class NoAnswerError(RunError):
    """The server did not tell its time, which says nothing about the clock.

    Parameters
    ----------
    server : str
        ``host:port``.
    why : str
        What was seen.
    advice : str
        What to look at.
    """

    def __init__(self, server: str, why: str, advice: str) -> None:
        super().__init__(f"the server {server} does not tell its time ({why}): {advice}")
        self.server, self.why, self.advice = server, why, advice


def clock(*, echo: Callable[[str], None] = print) -> int:
    """Print how the clock stands; a server that does not answer is no mistake of the clock.

    Raises
    ------
    FedRSCLIPError
        If the clock is wrong, or nobody has said who the server is.
    """
    try:
        echo(f"this machine's clock is {inspect_clock()}")
    except NoAnswerError as error:
        echo(str(error))
    return 0


def inspect_clock() -> str:
    """Return how far the clock is from the server's.

    Raises
    ------
    RunError
        If Flower refuses this machine for it, or will soon, or the server does not answer.
    ConfigError
        If the environment does not name the server, or a file that is no authority's.
    """
    seconds = offset(*_server())
    found = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the server's"
    if -_TOLERATED_BEHIND <= seconds <= _TOLERATED_AHEAD:
        return found
    raise RunError(
        f"this machine's clock is {found}; Flower refuses a site that is {REFUSED_AHEAD} s ahead "
        f"or {REFUSED_BEHIND} s behind: set it by NTP (if it is, the server's is wrong)"
    )


def offset(server: str, authority: str | None, *, patience: float = _PATIENCE) -> float:
    """Return by how many seconds this machine's clock is ahead of the server's.

    Parameters
    ----------
    server : str
        ``host:port``.
    authority : str or None
        PEM file by which the server's certificate is checked; ``None``: no TLS.
    patience : float
        Seconds to wait for the answer.
    """
    context = None if authority is None else _context(authority)
    found: SimpleQueue[float | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            found.put(_offset(server, context, patience))
        except Exception as error:
            found.put(error)

    # No timeout of a socket bounds the search for the server's address.
    Thread(target=ask, daemon=True).start()
    try:
        answer = found.get(timeout=patience)
    except Empty:
        raise _no_answer(server, "timed out") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _offset(server: str, context: ssl.SSLContext | None, patience: float) -> float:
    scheme = "http" if context is None else "https"
    request = Request(f"{scheme}://{server}/", method="HEAD")
    # By the proxies of the environment, as a SuperNode does.
    opener = build_opener(HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=patience) as answer:
            headers = answer.headers
    except HTTPError as refusal:
        # The proxy publishes nothing at `/`, but its answer has a date as well.
        headers = refusal.headers
    except (OSError, HTTPException) as error:
        raise _sentence(server, error) from error
    # The server writes its date last, after names, connection and TLS: this is the nearest time.
    here = time.time()
    try:
        there = parsedate_to_datetime(headers["Date"]).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise _no_answer(server, "no date", "see whether that is its address") from error
    # A date is cut to whole seconds: on average it is half a second old.
    return here - (there + 0.5)


def _server() -> tuple[str, str | None]:
    server = os.environ.get(SERVER_VARIABLE, "")
    try:
        parts = urlsplit(f"//{server}")
        usable = bool(parts.hostname and parts.port) and parts.netloc == server
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{SERVER_VARIABLE} is {server!r}: give it the server's host:port")
    return server, os.environ.get(AUTHORITY_VARIABLE) or None


def _context(authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        raise ConfigError(
            f"{AUTHORITY_VARIABLE} is {authority}, which cannot be read ({error.strerror}): give "
            "it the file with the authority's certificate"
        ) from error
    return context


def _sentence(server: str, error: Exception) -> RunError:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        wrong = _CERTIFICATE_TIMES.get(cause.verify_code)
        if wrong is None:
            return _no_answer(
                server, cause.verify_message, f"see whether {AUTHORITY_VARIABLE} is its authority's"
            )
        return RunError(
            f"the server's certificate {wrong} by this machine's clock, which says "
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC: if that is not the time set it by NTP, else "
            "the server needs a new certificate"
        )
    return _no_answer(server, getattr(cause, "strerror", None) or str(cause))


def _no_answer(
    server: str, why: str, advice: str = "see whether it is up and this machine may reach its port"
) -> NoAnswerError:
    return NoAnswerError(server, why, advice)
