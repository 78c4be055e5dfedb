"""Keys for mutual TLS: an authority and leaves of it, made here and in one go."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from pathlib import Path
from typing import Any

from redline_agent.errors import UsageError
from redline_agent.jobs.trees import needs_scale

EPHEMERAL_DAYS = 30
FILE_DAYS = 365


def made(names: tuple[str, ...], days: int) -> tuple[str, dict[str, tuple[str, str]]]:
    """Return an authority's certificate, and a certificate and key for each name, all PEM. The authority's own key is
    dropped, so nobody can make another leaf.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise needs_scale() from error

    now = dt.datetime.now(dt.UTC)
    until = now + dt.timedelta(days=days)

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def begun(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("redline campaign"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(until)
        )

    pem = serialization.Encoding.PEM
    top = ec.generate_private_key(ec.SECP256R1())
    authority = (
        begun("redline campaign", top)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(top.public_key()), critical=False)
        .sign(top, hashes.SHA256())
    )
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    leaves: dict[str, tuple[str, str]] = {}
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = (
            begun(name, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(top.public_key()), critical=False)
            .sign(top, hashes.SHA256())
        )
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        leaves[name] = leaf.public_bytes(pem).decode(), secret.decode()
    return authority.public_bytes(pem).decode(), leaves


def security(authority: str, certificate: str, key: str) -> Any:
    """Return distributed's security: every connection is TLS, both ends show a leaf of the authority. Values are PEM
    texts or paths.
    """
    try:
        from distributed import Security
    except ImportError as error:
        raise needs_scale() from error

    ours = {"cert": certificate, "key": key}
    roles = {f"tls_{role}_{part}": ours[part] for role in ("client", "scheduler", "worker") for part in ours}
    return Security(require_encryption=True, tls_ca_file=authority, **roles)


def from_files(authority: str, certificate: str, key: str) -> Any:
    """Return the security of files that the user named; raises UsageError when one is missing or wrong."""
    if not (authority and certificate and key):
        raise UsageError(
            "A scheduler on another machine needs mutual TLS.",
            hint="Give --tls-ca, --tls-cert and --tls-key (`redline scheduler --new-keys FOLDER` makes them).",
        )
    missing = next((each for each in (authority, certificate, key) if not Path(each).is_file()), "")
    if missing:
        raise UsageError(f"There is no TLS file {missing}.")
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=authority)
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise UsageError(f"The TLS files cannot be used: {error}.") from error
    return security(authority, certificate, key)


def write_keys(folder: Path) -> list[str]:
    """Write an authority and leaves for a scheduler, a campaign and workers, 0600; returns the files' names."""
    authority, leaves = made(("scheduler", "campaign", "worker"), FILE_DAYS)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    texts = {"ca.pem": authority}
    for name, (certificate, key) in leaves.items():
        texts |= {f"{name}.pem": certificate, f"{name}.key": key}
    for name, text in texts.items():
        try:
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise UsageError(f"{folder / name} cannot be written: {error}.", hint="Name an empty folder.") from error
        with os.fdopen(handle, "w") as file:
            file.write(text)
    return sorted(texts)
