"""The cloud's own certificate authority: who a server is, and who a device is.

P-256 throughout: awscrt refuses Ed25519 (``findings.md`` 3). Keys and certificates are files with mode 0600 under
``certificates/`` of the state folder and stay the same when the cloud starts again, so devices keep trusting it.
"""

import hashlib
import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from monodon.cloud.store import write_whole
from monodon.errors import StateError

FOLDER = "certificates"
CA_FILE = "ca.pem"

#: awsiotsdk asks for these when it goes to port 443 (cloud.md 8); HTTP clients for ``http/1.1``.
MQTT_PROTOCOLS = ("x-amzn-mqtt-ca", "mqtt")
HTTP_PROTOCOLS = ("http/1.1",)

_CA_YEARS = 20
_DEVICE_YEARS = 20
#: Clients refuse server certificates that last longer.
_SERVER_DAYS = 397
_RENEW_BEFORE_DAYS = 60
_SKEW = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A device certificate and its keys, in PEM; the private key is kept nowhere else."""

    certificate_id: str
    certificate_pem: str
    public_key_pem: str
    private_key_pem: str


def identify(der: bytes) -> str:
    """Return the certificate id of a certificate: 64 hexadecimal digits, AWS's own rule (SHA-256 of its DER)."""
    return hashlib.sha256(der).hexdigest()


def identify_pem(pem: str) -> str:
    """Return the certificate id of a PEM certificate.

    Raises:
        ValueError: it is not a certificate.
    """
    return identify(x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER))


class CertificateAuthority:
    """Issues the server's and the devices' certificates."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.ca_file = folder / CA_FILE
        self.ca_pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self._folder = folder
        self._certificate = certificate
        self._key = key

    @classmethod
    def open(
        cls, state_folder: Path, *, now: datetime | None = None, host: str | None = None
    ) -> "CertificateAuthority":
        """Open the authority of a state folder, made if it is new; the server's certificate is renewed when it is due.

        Args:
            host: a further name or address that the server is called by.

        Raises:
            StateError: the files are damaged.
        """
        folder = state_folder / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        now = now or datetime.now(UTC)
        try:
            authority = cls(folder, *_load_or_make_ca(folder, now))
            authority._renew_server(now, host)
        except (ValueError, TypeError) as error:
            raise StateError(
                f"the cloud's certificates in {folder} are damaged: {error}",
                hint="restore the folder from a copy, or remove the state folder and start anew",
            ) from error
        return authority

    def issue(self, common_name: str = "Monodon device", *, now: datetime | None = None) -> IssuedCertificate:
        """Return a new device certificate with a new key."""
        now = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(
            key.public_key(),
            common_name=common_name,
            now=now,
            lasts=timedelta(days=365 * _DEVICE_YEARS),
            usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        )
        return IssuedCertificate(
            certificate_id=identify(certificate.public_bytes(serialization.Encoding.DER)),
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
            public_key_pem=key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode(),
            private_key_pem=_key_pem(key).decode(),
        )

    def issue_for_request(self, request_pem: str, *, now: datetime | None = None) -> tuple[str, str]:
        """Sign a certificate request; return the certificate id and the certificate in PEM.

        Raises:
            ValueError: the request is not readable or its signature does not fit its key.
        """
        now = now or datetime.now(UTC)
        request = x509.load_pem_x509_csr(request_pem.encode())
        key = request.public_key()
        if not request.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("the request must be signed with its own elliptic-curve key (P-256 or P-384)")
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        certificate = self._sign(
            key,
            common_name=str(names[0].value) if names else "Monodon device",
            now=now,
            lasts=timedelta(days=365 * _DEVICE_YEARS),
            usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        return identify(der), certificate.public_bytes(serialization.Encoding.PEM).decode()

    def server_context(self, *, client_certificate: ssl.VerifyMode, protocols: tuple[str, ...]) -> ssl.SSLContext:
        """Return the TLS context of a server port.

        Args:
            client_certificate: ``CERT_OPTIONAL`` for HTTPS, ``CERT_REQUIRED`` for MQTT.
            protocols: the ALPN names it agrees to.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._folder / "server.pem", self._folder / "server.key")
        context.load_verify_locations(self.ca_file)
        context.verify_mode = client_certificate
        context.set_alpn_protocols(list(protocols))
        return context

    def _renew_server(self, now: datetime, host: str | None) -> None:
        path, key_path = self._folder / "server.pem", self._folder / "server.key"
        names = _server_names(host)
        if path.exists() and key_path.exists():
            current = x509.load_pem_x509_certificate(path.read_bytes())
            held = current.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            lasts = current.not_valid_after_utc - now
            if lasts > timedelta(days=_RENEW_BEFORE_DAYS) and set(names) <= set(held):
                return
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(
            key.public_key(),
            common_name="localhost",
            now=now,
            lasts=timedelta(days=_SERVER_DAYS) - _SKEW,
            usage=ExtendedKeyUsageOID.SERVER_AUTH,
            names=names,
        )
        # A kill between the two leaves a pair that does not fit: the certificate goes first, so that it is made again.
        path.unlink(missing_ok=True)
        write_whole(key_path, _key_pem(key))
        write_whole(path, certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        *,
        common_name: str,
        now: datetime,
        lasts: timedelta,
        usage: x509.ObjectIdentifier,
        names: tuple[x509.GeneralName, ...] = (),
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + lasts)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _server_names(host: str | None) -> tuple[x509.GeneralName, ...]:
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    if host:
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        if name not in names:
            names.append(name)
    return tuple(names)


def _load_or_make_ca(folder: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path, key_path = folder / CA_FILE, folder / "ca.key"
    if path.exists():
        if not key_path.exists():
            raise ValueError("ca.key is missing")
        loaded = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError("ca.key is not an elliptic-curve key")
        return x509.load_pem_x509_certificate(path.read_bytes()), loaded
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Monodon embedded cloud CA")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_whole(key_path, _key_pem(key))
    write_whole(path, certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
