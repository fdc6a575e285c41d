"""Reading a certificate's dates: the same as the library that made it, and garbage is one clear error."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.fleet.credentials import amazon_root_ca
from monodon.fleet.x509 import certificate_bytes, validity

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "drone-1")])


def certificate(begin: datetime, end: datetime) -> x509.Certificate:
    builder = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 1, begin, end)
    return builder.sign(KEY, hashes.SHA256())


@pytest.mark.parametrize("year", [1950, 1999, 2026, 2049, 2050, 9999])
def test_dates_are_read_as_they_were_written(year: int) -> None:
    """Years from 2050 on are written in another way."""
    end = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    made = certificate(datetime(1950, 1, 1, tzinfo=UTC), end)
    found = validity(certificate_bytes(made.public_bytes(serialization.Encoding.PEM).decode()))
    assert found.not_before == datetime(1950, 1, 1, tzinfo=UTC)
    assert found.not_after == end


def test_amazons_root_comes_with_botocore() -> None:
    found = x509.load_pem_x509_certificate(amazon_root_ca())
    assert found.fingerprint(hashes.SHA256()).hex() == (
        "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e"
    )
    assert validity(certificate_bytes(amazon_root_ca().decode())).not_after == found.not_valid_after_utc


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), st.binary(max_size=4))
def test_damaged_certificates_are_one_error(place: int, damage: bytes) -> None:
    der = certificate(datetime.now(UTC), datetime.now(UTC) + timedelta(days=1)).public_bytes(serialization.Encoding.DER)
    for broken in (der[:place], der[:place] + damage + der[place + len(damage) :], damage):
        with suppress(ValueError):
            assert validity(broken).not_before.tzinfo is UTC


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"])
def test_what_is_no_pem_is_one_error(text: str) -> None:
    with pytest.raises(ValueError, match="PEM|base64"):
        certificate_bytes(text)
