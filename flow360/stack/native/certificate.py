"""A certificate of a server's own, for servers that know each other by one and by nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from flow360.files import write

YEARS = 20


def make(folder: Path, name: str) -> None:
    """Make `node.key` (its owner's alone) and `node.pem`, signed by itself, in a folder; nothing where they are.

    Args:
        name: whom the certificate names, as CN.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if (folder / "node.pem").exists() and (folder / "node.key").exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # a clock that is put right later must not make it invalid
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "node.key", secret, 0o600)
    write(folder / "node.pem", made.public_bytes(serialization.Encoding.PEM), 0o600)
