"""Make the keys and certificates of the composed federation; what is there is kept.

Each service has a volume of keys of its own, which is mounted here below ``/hosts``: none sees
another's, and the authority's own key is mounted nowhere else.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from fedrsclip.deploy.certs import DEFAULT_DAYS, make_keys
from fedrsclip.deploy.description import Description, describe
from fedrsclip.deploy.proxy import Proxy, nginx_conf
from fedrsclip_core.errors import FedRSCLIPError
from fedrsclip_core.runs.fileio import write_bytes, write_text

HOSTS = Path("/hosts")
_AUTHORITY = "tls/ca.crt"
_CERTIFICATE, _KEY = "tls/server.crt", "tls/server.key"
_SECRET = "secret/superexec"
# Docker's own, in each container.
_RESOLVER = "127.0.0.11"


def shares(description: Description) -> Iterator[tuple[str, str, str]]:
    """Yield service, source below the authority's folder, and target below the service's."""
    for service in ("superlink", "serverapp", "proxy", "admin"):
        yield service, f"server/{_AUTHORITY}", _AUTHORITY
    for service in ("superlink", "proxy"):
        yield service, f"server/{_CERTIFICATE}", _CERTIFICATE
        yield service, f"server/{_KEY}", _KEY
    for service in ("superlink", "serverapp"):
        yield service, f"server/{_SECRET}", _SECRET
    for number, client in enumerate(description.clients):
        source = f"clients/{client}"
        yield "admin", f"server/keys/{client}.pub", f"nodes/{client}.pub"
        yield f"supernode-{number}", f"{source}/{_AUTHORITY}", _AUTHORITY
        yield f"supernode-{number}", f"{source}/keys/{client}", "node"
        for service in ("supernode", "clientapp"):
            yield f"{service}-{number}", f"{source}/{_SECRET}", _SECRET


def main() -> int:
    """Make what is missing and hand each service its share."""
    description = describe(["federation=compose"])
    federation = description.federation
    folder = HOSTS / "authority"
    try:
        make_keys(description, folder, days=DEFAULT_DAYS, rotate=None, echo=print)
    except FedRSCLIPError as error:
        print(f"keys: {error}", file=sys.stderr)
        return 1
    for service, source, target in shares(description):
        file = folder / source
        mode = file.stat().st_mode & 0o777
        write_bytes(HOSTS / service / target, file.read_bytes(), mode=mode)
    (upstream,) = federation.alt_names
    configuration = nginx_conf(
        Proxy(
            listen=str(federation.port),
            upstream=f"{upstream}:{federation.superlink_port}",
            certificate=_CERTIFICATE,
            key=_KEY,
            authority=_AUTHORITY,
            upstream_name=upstream,
            resolver=_RESOLVER,
        )
    )
    write_text(HOSTS / "proxy" / "nginx.conf", configuration)
    return 0


if __name__ == "__main__":
    sys.exit(main())
