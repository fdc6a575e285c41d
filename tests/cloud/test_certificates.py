import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from monodon.cloud.certificates import HTTP_PROTOCOLS, CertificateAuthority, identify, identify_pem
from monodon.errors import StateError

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def talk(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[bytes | None, ssl.SSLObject]:
    """Shake hands in memory; return the client's certificate as the server saw it, and the client's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    pending = [asking, serving]
    for _ in range(10):
        for end in list(pending):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(end)
    assert pending == []
    return serving.getpeercert(binary_form=True), asking


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_strict_client_trusts_the_server_and_the_server_knows_the_device(tmp_path: Path, name: str) -> None:
    """findings 3: Python 3.13's default context refuses a server without Authority Key Identifier."""
    authority = CertificateAuthority.open(tmp_path)
    issued = authority.issue("drone-1")
    (tmp_path / "device.pem").write_text(issued.certificate_pem)
    (tmp_path / "device.key").write_text(issued.private_key_pem)
    server = authority.server_context(client_certificate=ssl.CERT_OPTIONAL, protocols=HTTP_PROTOCOLS)
    client = ssl.create_default_context(cafile=str(authority.ca_file))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    der, _ = talk(server, client, name)
    assert der is None
    client.load_cert_chain(tmp_path / "device.pem", tmp_path / "device.key")
    der, _ = talk(server, client, name)
    assert der is not None
    assert identify(der) == issued.certificate_id == identify_pem(issued.certificate_pem)
    assert len(issued.certificate_id) == 64


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours, theirs = CertificateAuthority.open(tmp_path / "a"), CertificateAuthority.open(tmp_path / "b")
    issued = theirs.issue()
    (tmp_path / "device.pem").write_text(issued.certificate_pem + issued.private_key_pem)
    client = ssl.create_default_context(cafile=str(ours.ca_file))
    client.load_cert_chain(tmp_path / "device.pem")
    server = ours.server_context(client_certificate=ssl.CERT_OPTIONAL, protocols=HTTP_PROTOCOLS)
    with pytest.raises(ssl.SSLError):
        talk(server, client, "localhost")


def test_the_authority_stays_the_same_and_its_files_are_private(tmp_path: Path) -> None:
    first = CertificateAuthority.open(tmp_path, now=NOW)
    server = (tmp_path / "certificates" / "server.pem").read_bytes()
    second = CertificateAuthority.open(tmp_path, now=NOW + timedelta(days=30))
    assert second.ca_pem == first.ca_pem
    assert (tmp_path / "certificates" / "server.pem").read_bytes() == server
    for path in (tmp_path / "certificates").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_servers_certificate_is_renewed_before_it_ends_and_for_a_new_name(tmp_path: Path) -> None:
    CertificateAuthority.open(tmp_path, now=NOW)
    path = tmp_path / "certificates" / "server.pem"
    first = path.read_bytes()
    CertificateAuthority.open(tmp_path, now=NOW + timedelta(days=360))
    second = path.read_bytes()
    assert second != first
    CertificateAuthority.open(tmp_path, now=NOW + timedelta(days=360), host="cloud.local")
    names = x509.load_pem_x509_certificate(path.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost", "cloud.local"]


def test_a_request_is_signed_with_the_devices_own_key(tmp_path: Path) -> None:
    authority = CertificateAuthority.open(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "drone-2")]))
        .sign(key, hashes.SHA256())
    )
    certificate_id, pem = authority.issue_for_request(request.public_bytes(serialization.Encoding.PEM).decode())
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert identify_pem(pem) == certificate_id
    assert certificate.public_key() == key.public_key()
    with pytest.raises(ValueError, match="PEM"):
        authority.issue_for_request("nonsense")


def test_damaged_certificates_are_one_clear_line(tmp_path: Path) -> None:
    CertificateAuthority.open(tmp_path)
    (tmp_path / "certificates" / "ca.pem").write_text("-----BEGIN CERT")
    with pytest.raises(StateError, match=r"certificates in .* are damaged"):
        CertificateAuthority.open(tmp_path)
