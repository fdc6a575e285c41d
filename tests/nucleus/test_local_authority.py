"""The core device's own authority: its files, its renewal, and what happens without the library it needs."""

import base64
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monodon.core.client_devices import Authority, KeyType
from monodon.errors import StateError
from monodon.nucleus.local_authority import Signer, new_server_key, open_authority, read_certificate, sign_server

NOW = datetime(2026, 11, 22, tzinfo=UTC)
EC = Authority(key_type=KeyType.EC)


def test_it_is_made_once_and_kept_private(tmp_path: Path) -> None:
    made = open_authority(tmp_path / "work", EC, NOW)
    again = open_authority(tmp_path / "work", EC, NOW + timedelta(days=300))
    assert made.pem == again.pem
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "work").iterdir()} == {
        "ca.pem": 0o644,
        "ca.key": 0o600,
    }
    assert made.certificate.not_valid_after_utc == NOW + timedelta(days=5 * 365)
    assert made.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert made.certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_it_is_made_anew_before_it_ends_and_for_another_kind_of_key(tmp_path: Path) -> None:
    first = open_authority(tmp_path, EC, NOW)
    later = open_authority(tmp_path, EC, NOW + timedelta(days=5 * 365 - 29))
    assert later.pem != first.pem
    assert later.is_ending(NOW) is False
    assert open_authority(tmp_path, Authority(key_type=KeyType.RSA), NOW).pem != later.pem


def test_what_it_signed_is_known_and_nothing_else(tmp_path: Path) -> None:
    ours, theirs = open_authority(tmp_path / "a", EC, NOW), open_authority(tmp_path / "b", EC, NOW)
    key = new_server_key(KeyType.EC)
    text = sign_server(ours, key, "x" * 128, ("localhost", "::1", "localhost"), NOW, timedelta(hours=1))
    certificate = read_certificate(text)
    assert ours.has_issued(certificate, NOW + timedelta(minutes=1))
    assert not ours.has_issued(certificate, NOW + timedelta(hours=2))
    assert not ours.has_issued(certificate, NOW - timedelta(minutes=1))
    assert not theirs.has_issued(certificate, NOW + timedelta(minutes=1))
    rsa = open_authority(tmp_path / "c", Authority(key_type=KeyType.RSA), NOW)
    assert not rsa.has_issued(certificate, NOW + timedelta(minutes=1))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, bytes]:
    """An authority and a certificate of its own, in DER."""
    signer = open_authority(tmp_path_factory.mktemp("authority"), EC, NOW)
    pem = sign_server(signer, new_server_key(KeyType.EC), "x", ("localhost",), NOW, timedelta(hours=1))
    return signer, x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@example([(12, 93)])
@settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_any_bytes_are_a_certificate_or_none(signed: tuple[Signer, bytes], changes: list[tuple[int, int]]) -> None:
    signer, der = signed
    changed = bytearray(der)
    for place, value in changes:
        changed[place % len(der)] = value
    text = base64.encodebytes(bytes(changed)).decode()
    try:
        certificate = read_certificate(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
    except ValueError:
        return
    assert signer.has_issued(certificate, NOW) is (bytes(changed) == der)


@pytest.mark.parametrize("damaged", ["ca.pem", "ca.key"])
def test_damaged_files_are_named(tmp_path: Path, damaged: str) -> None:
    open_authority(tmp_path, EC, NOW)
    (tmp_path / damaged).write_text("x")
    with pytest.raises(StateError, match="cannot be used") as refused:
        open_authority(tmp_path, EC, NOW)
    assert refused.value.hint is not None
    assert "remove both" in refused.value.hint


def test_a_key_must_be_the_certificates(tmp_path: Path) -> None:
    for name in ("a", "b"):
        open_authority(tmp_path / name, EC, NOW)
    brought = Authority(
        certificate_uri=(tmp_path / "a/ca.pem").as_uri(), private_key_uri=(tmp_path / "b/ca.key").as_uri()
    )
    with pytest.raises(StateError, match="not the certificate's"):
        open_authority(tmp_path, brought, NOW)


@pytest.mark.parametrize("uri", ["pkcs11:object=ca", "file://elsewhere/ca.pem", "file:///none.pem"])
def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path, uri: str) -> None:
    with pytest.raises(StateError, match=uri.rpartition("/")[2]):
        open_authority(tmp_path, Authority(certificate_uri=uri, private_key_uri=uri), NOW)


def test_without_the_library_the_error_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['cryptography'] = None\n"
        "from monodon.errors import StateError\n"
        "from monodon.nucleus.nucleus import running\n"
        "from monodon.nucleus.local_authority import read_certificate\n"
        "try:\n"
        "    read_certificate('x')\n"
        "except StateError as error:\n"
        "    print(error, error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "client devices need the package cryptography pip install 'monodon[local]'\n"
