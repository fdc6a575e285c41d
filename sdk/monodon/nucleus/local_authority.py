"""The core device's own certificate authority, by which client devices know its local servers.

Key and certificate are files of aws.greengrass.clientdevices.Auth's work folder, where AWS has ``ca.pem`` too; or they
are those that its configuration names. All of it needs the package cryptography, which is loaded on first use: a
nucleus without client devices runs without it. Everything here blocks: call it on a thread.

Source: aws.greengrass.clientdevices.Auth, ``certificate/CertificateHelper.java``, ``CertificateStore.java``.
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from monodon.core.client_devices import Authority, KeyType
from monodon.errors import StateError
from monodon.nucleus.disk import read, write_whole

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

COMMON_NAME: Final = "Greengrass Core CA"
_LASTS: Final = timedelta(days=5 * 365)
#: An authority of the device's own is made anew when it has less time left than this.
_RENEW: Final = timedelta(days=30)
_MAX_NAME: Final = 64
_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """An authority that can sign."""

    certificate: "x509.Certificate"
    key: "CertificateIssuerPrivateKeyTypes"

    @property
    def pem(self) -> str:
        """Its certificate."""
        return _pem(self.certificate)

    def is_ending(self, now: datetime) -> bool:
        """Whether it has too little time left."""
        return self.certificate.not_valid_after_utc - _RENEW <= now

    def has_issued(self, certificate: "x509.Certificate", now: datetime) -> bool:
        """Whether it signed a certificate that is valid at the moment."""
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return is_valid_at(certificate, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKey:
    """The key of a server, which it keeps when its certificate is renewed."""

    key: "CertificateIssuerPrivateKeyTypes"

    @property
    def private_pem(self) -> str:
        """PKCS #8."""
        from cryptography.hazmat.primitives import serialization as form

        return self.key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode()

    @property
    def public_pem(self) -> str:
        """The public half."""
        from cryptography.hazmat.primitives import serialization as form

        public = self.key.public_key()
        return public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo).decode()


def read_certificate(pem: str) -> "x509.Certificate":
    """Return the first certificate of a PEM text.

    Raises:
        ValueError: there is none.
        StateError: cryptography is missing.
    """
    _check_library()
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except (x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error


def is_valid_at(certificate: "x509.Certificate", now: datetime) -> bool:
    """Whether a certificate is valid at a moment."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def open_authority(folder: Path, authority: Authority, now: datetime) -> Signer:
    """Return the authority that the configuration asks for; one of the device's own is made if there is none yet.

    Raises:
        StateError: a file is missing or damaged, or cryptography is.
    """
    _check_library()
    if authority.certificate_uri is not None and authority.private_key_uri is not None:
        return _read(_file(authority.certificate_uri), _file(authority.private_key_uri))
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if certificate.exists() and key.exists():
        signer = _read(certificate, key)
        if _key_type(signer.key) is authority.key_type and not signer.is_ending(now):
            return signer
    return _made(certificate, key, authority.key_type, now)


def new_server_key(key_type: KeyType) -> ServerKey:
    """Return a new key, of the kind that the authority's is."""
    _check_library()
    return ServerKey(key=_new_key(key_type))


def sign_server(
    signer: Signer, key: ServerKey, name: str, hosts: Sequence[str], now: datetime, lasts: timedelta
) -> str:
    """Return a server's certificate in PEM, for some host names and addresses."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    public = key.key.public_key()
    builder = (
        _builder(name, signer.certificate.subject, now, now + lasts)
        .public_key(public)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in dict.fromkeys(hosts)]), critical=False)
    )
    return _pem(_signed(builder, signer.key))


def _check_library() -> None:
    try:
        import cryptography  # noqa: F401 - only to see whether it is there
    except ImportError as error:
        raise StateError("client devices need the package cryptography", hint="pip install 'monodon[local]'") from error


def _read(certificate: Path, key: Path) -> Signer:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        contents = {path: read(path) for path in (certificate, key)}
    except OSError as error:
        raise StateError(f"the authority's files cannot be read: {error}") from error
    for path, content in contents.items():
        if content is None:
            raise StateError(f"the authority's file {path} is missing")
    try:
        loaded = x509.load_pem_x509_certificate(contents[certificate] or b"")
        private = serialization.load_pem_private_key(contents[key] or b"", password=None)
        if private.public_key() != loaded.public_key():
            raise ValueError("the key is not the certificate's")
    except (ValueError, TypeError) as error:
        raise StateError(
            f"the authority in {certificate} and {key} cannot be used: {error}",
            hint="restore both files, or remove both: an own authority is then made anew, and its servers' clients "
            "must learn to trust it",
        ) from error
    return Signer(certificate=loaded, key=private)  # type: ignore[arg-type]  # what cannot sign fails when it shall


def _authority_usage() -> "x509.KeyUsage":
    """What an authority's key is for; Python from 3.13 on trusts none that does not say."""
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _made(certificate: Path, key: Path, key_type: KeyType, now: datetime) -> Signer:
    from cryptography import x509

    server = ServerKey(key=_new_key(key_type))
    name = _subject(COMMON_NAME)
    public = server.key.public_key()
    builder = (
        _builder(COMMON_NAME, name, now, now + _LASTS)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_authority_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    signer = Signer(certificate=_signed(builder, server.key), key=server.key)
    try:
        key.parent.mkdir(parents=True, exist_ok=True)
        certificate.unlink(missing_ok=True)
        os.close(os.open(key.with_name(f".{key.name}.part"), os.O_WRONLY | os.O_CREAT, 0o600))
        write_whole(key, server.private_pem.encode())
        write_whole(certificate, signer.pem.encode())
        certificate.chmod(0o644)
    except OSError as error:
        raise StateError(f"the authority's files cannot be written to {key.parent}: {error.strerror}") from error
    return signer


def _new_key(key_type: KeyType) -> "CertificateIssuerPrivateKeyTypes":
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if key_type is KeyType.EC:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)


def _key_type(key: "CertificateIssuerPrivateKeyTypes") -> KeyType | None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return KeyType.EC
    return KeyType.RSA if isinstance(key, rsa.RSAPrivateKey) else None


def _builder(name: str, issuer: "x509.Name", begins: datetime, ends: datetime) -> "x509.CertificateBuilder":
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins.astimezone(UTC))
        .not_valid_after(ends.astimezone(UTC))
    )


def _signed(builder: "x509.CertificateBuilder", key: "CertificateIssuerPrivateKeyTypes") -> "x509.Certificate":
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())


def _subject(name: str) -> "x509.Name":
    """The name that AWS's component gives: its clients may look at it."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = (
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.ORGANIZATION_NAME, "Amazon.com Inc."),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Amazon Web Services"),
        (NameOID.STATE_OR_PROVINCE_NAME, "Washington"),
        (NameOID.LOCALITY_NAME, "Seattle"),
        (NameOID.COMMON_NAME, name[:_MAX_NAME]),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _host(host: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: "x509.Certificate") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()


def _file(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise StateError(f"the authority's file {uri} cannot be read: it is no file: URI of this machine")
    return Path(unquote(parts.path))
