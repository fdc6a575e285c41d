"""A device's certificate and key on this machine: written before anything depends on them, made again if lost.

The order makes an interruption harmless. A certificate is made inactive; its key is on disk (0600) before its ARN is
noted; it is activated before the thing has it. So one that the thing has and that is not active was switched off on
purpose, and stays off. What an interruption may leave behind is an inactive certificate that belongs to nothing.
"""

import os
import re
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any

import botocore
from botocore.exceptions import ClientError

from monodon.errors import FleetError
from monodon.fleet.aws import Aws, is_missing
from monodon.fleet.steps import Step

KEY = "device.key.pem"
CERTIFICATE = "device.pem.crt"
ROOT_CA = "root-ca.pem"
NOTE = "certificate.arn"
#: What a device of AWS IoT trusts. Source: https://www.amazontrust.com/repository
_AMAZON_ROOT = "Amazon Root CA 1"


def ensure_certificate(aws: Aws, thing: str, folder: Path, policy: str) -> Generator[Step, None, str]:
    """Return the ARN of the active certificate in ``folder``, with the policy attached and the thing holding it.

    Raises:
        FleetError: the certificate was switched off or revoked, or a file cannot be written.
        ClientError: AWS refuses a call.
    """
    arn = yield from _own(aws, thing, folder)
    aws.iot.attach_policy(policyName=policy, target=arn)
    described = _describe(aws, arn)
    attached = arn in aws.iot.list_thing_principals(thingName=thing)["principals"]
    if described is None or described["status"] not in ("ACTIVE", "INACTIVE") or (_is_off(described) and attached):
        state = described["status"] if described else "gone"
        raise FleetError(
            f"the certificate of {thing} is {state}: {arn}",
            hint=f"make it ACTIVE again, or delete {folder} and provision again: the thing then gets a new one",
        )
    if _is_off(described):
        aws.iot.update_certificate(certificateId=certificate_id(arn), newStatus="ACTIVE")
    if not attached:
        aws.iot.attach_thing_principal(thingName=thing, principal=arn)
    return arn


def certificate_id(arn: str) -> str:
    """Return the id in a certificate's ARN."""
    return arn.rpartition("/")[2]


def amazon_root_ca() -> bytes:
    """Return Amazon Root CA 1 out of the certificates that botocore brings.

    Raises:
        FleetError: this botocore brings none.
    """
    bundle = (Path(botocore.__file__).parent / "cacert.pem").read_text(encoding="utf-8")
    found = re.search(rf'Label: "{_AMAZON_ROOT}".*?(-----BEGIN CERT.*?-----END CERTIFICATE-----\n)', bundle, re.DOTALL)
    if found is None:
        raise FleetError(
            f"{_AMAZON_ROOT} is not among botocore's certificates",
            hint="download https://www.amazontrust.com/repository/AmazonRootCA1.pem and name it with --root-ca",
        )
    return found[1].encode()


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file whole, with its mode from its first byte on, and on disk when this returns.

    Raises:
        FleetError: it cannot be written.
    """
    draft = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise FleetError(f"cannot write {path}: {error.strerror}") from error


def _own(aws: Aws, thing: str, folder: Path) -> Generator[Step, None, str]:
    """Return the ARN of the certificate that the folder holds; a new one if there is none, or its key is lost."""
    note, what = folder / NOTE, f"certificate of {thing}"
    if not note.exists():
        arn, why = "", ""
    else:
        arn = note.read_text().strip()
        why = _why_unusable(aws, arn, folder)
        if not why:
            yield Step(what=what, made=False)
            return arn
    made = _make(aws, folder)
    yield Step(what=f"{what} ({why})" if why else what, made=True)
    return made


def _why_unusable(aws: Aws, arn: str, folder: Path) -> str:
    """Return why an earlier certificate cannot be used; "" if it can, its file written again where it was lost."""
    described = _describe(aws, arn)
    if described is None:
        return "AWS knows the earlier one no more"
    if not (folder / CERTIFICATE).exists():
        write_private(folder / CERTIFICATE, described["certificatePem"].encode(), 0o644)
    if _fit(folder):
        return ""
    return (
        "the key of the earlier one is lost; switch that one off: "
        f"aws iot update-certificate --new-status INACTIVE --certificate-id {certificate_id(arn)}"
    )


def _make(aws: Aws, folder: Path) -> str:
    (folder / NOTE).unlink(missing_ok=True)
    made = aws.iot.create_keys_and_certificate(setAsActive=False)
    write_private(folder / KEY, made["keyPair"]["PrivateKey"].encode())
    write_private(folder / CERTIFICATE, made["certificatePem"].encode(), 0o644)
    write_private(folder / NOTE, made["certificateArn"].encode(), 0o644)
    return str(made["certificateArn"])


def _fit(folder: Path) -> bool:
    """Whether the key is there, can be read, and is the certificate's own."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except (OSError, ssl.SSLError):
        return False
    return True


def _describe(aws: Aws, arn: str) -> dict[str, Any] | None:
    try:
        found = aws.iot.describe_certificate(certificateId=certificate_id(arn))["certificateDescription"]
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return dict(found)


def _is_off(described: dict[str, Any]) -> bool:
    return bool(described["status"] == "INACTIVE")
