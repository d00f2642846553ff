"""Keys and certificates: a private authority, the server's certificate, keys of SuperNodes.

Flower takes SuperNode keys as elliptic-curve keys in OpenSSH's format and nothing else.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedrsclip.deploy import addresses
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs.fileio import write_bytes

PRIVATE, PUBLIC = 0o600, 0o644
# A clock may be behind the one of the machine that signs.
_BACKDATED = timedelta(days=1)
_LONGEST_COMMON_NAME = 64

PrivateKey = ec.EllipticCurvePrivateKey


def write_authority(key_file: Path, certificate_file: Path, name: str, days: int) -> None:
    """Make a private certificate authority that signs servers only."""
    key = _new_key()
    subject = _name(f"FedRSCLIP {name} authority")
    builder = _builder(subject, subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(certificates=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = builder.add_extension(identifier, critical=False).sign(key, hashes.SHA384())
    _write_pem(key_file, certificate_file, key, certificate)


def write_server(
    authority_key: Path,
    authority: Path,
    key_file: Path,
    certificate_file: Path,
    names: list[str],
    days: int,
) -> None:
    """Make a server's key and its certificate for every name and address.

    Raises
    ------
    ConfigError
        If the authority's files are damaged or do not belong together.
    """
    signer, issuer = _private_key(authority_key), read_certificate(authority)
    if signer.public_key() != issuer.public_key():
        raise ConfigError(f"{authority_key} is not the key of {authority}")
    if issuer.not_valid_after_utc < datetime.now(UTC) + timedelta(days=days):
        raise ConfigError(
            f"the authority expires on {issuer.not_valid_after_utc:%Y-%m-%d}, before a certificate "
            f"of {days} days would: choose fewer days, or delete ca/ and server/tls/ by hand for a "
            "new authority"
        )
    key = _new_key()
    builder = _builder(_name(names[0]), issuer.subject, key.public_key(), days)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(certificates=False), critical=True)
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    builder = builder.add_extension(server, critical=False)
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    builder = builder.add_extension(alternatives, critical=False)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    # By the key itself: a certificate of the same key stays valid under it.
    parent = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    certificate = builder.add_extension(parent, critical=False).sign(signer, hashes.SHA384())
    _write_pem(key_file, certificate_file, key, certificate)


def read_certificate(file: Path) -> x509.Certificate:
    """Read a PEM certificate.

    Raises
    ------
    ConfigError
        If it is damaged.
    """
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{file} is no certificate: {error}") from error


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the DNS names and addresses that a certificate is for."""
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = found.get_values_for_type(x509.DNSName)
    return {*dns, *(str(ip) for ip in found.get_values_for_type(x509.IPAddress))}


def write_node_key(key_file: Path) -> bytes:
    """Make a SuperNode's private key and return the line of its public key."""
    key = _new_key()
    data = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    write_bytes(key_file, data, mode=PRIVATE)
    return _public_line(key, key_file.name)


def public_line_of(key_file: Path) -> bytes:
    """Return the public key's line of a SuperNode's private key.

    Raises
    ------
    ConfigError
        If it is damaged or of a kind that Flower does not take.
    """
    try:
        key = load_ssh_private_key(key_file.read_bytes(), None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{key_file} is no private key in OpenSSH's format") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{key_file} is not an elliptic-curve key, which Flower wants")
    return _public_line(key, key_file.name)


def public_key(file: Path) -> str:
    """Return a SuperNode's public key from its file: what is before the comment.

    Raises
    ------
    ConfigError
        If it is damaged or of a kind that Flower does not take.
    """
    try:
        key = load_ssh_public_key(file.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{file} is no public key in OpenSSH's format: send it again") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(f"{file} is not an elliptic-curve key, which Flower wants")
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _public_line(key: PrivateKey, comment: str) -> bytes:
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return line + b" " + comment.encode() + b"\n"


def _new_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _private_key(file: Path) -> PrivateKey:
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{file} is no private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{file} is not an elliptic-curve key")
    return key


def _write_pem(
    key_file: Path, certificate_file: Path, key: PrivateKey, certificate: x509.Certificate
) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_bytes(key_file, pem, mode=PRIVATE)
    write_bytes(certificate_file, certificate.public_bytes(Encoding.PEM), mode=PUBLIC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:_LONGEST_COMMON_NAME])])


def _general_name(host: str) -> x509.GeneralName:
    address = addresses.ip_of(host)
    return x509.DNSName(host) if address is None else x509.IPAddress(address)


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
