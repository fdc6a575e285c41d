"""Client devices through awsiotsdk: ipc.md 4.8. The cloud's registry is a fake that can go away."""

import asyncio
import base64
import hashlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from awsiot.greengrasscoreipc import model
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

AUTH = "aws.greengrass.clientdevices.Auth"
BROKER = "com.example.Broker"
C = "com.example.C"
LAMPS = {
    "formatVersion": "2021-03-05",
    "definitions": {"lamps": {"selectionRule": "thingName: lamp*", "policyName": "lamps"}},
    "policies": {
        "lamps": {
            "connect": {"operations": ["mqtt:connect"], "resources": ["*"]},
            "tell": {
                "operations": ["mqtt:publish"],
                "resources": ["mqtt:topic:lamps/${iot:Connection.Thing.ThingName}/state"],
            },
        }
    },
}


@dataclass(frozen=True)
class Card:
    """A client device's certificate."""

    pem: str
    id: str


def card(begins: int = -3600, ends: int = 3600, *, now_s: float = 1_000) -> Card:
    """A certificate of an authority that nobody knows, valid around a time (seconds since 1970)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    now = datetime.fromtimestamp(now_s, UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + timedelta(seconds=begins))
        .not_valid_after(now + timedelta(seconds=ends))
        .sign(key, hashes.SHA256())
    )
    der = made.public_bytes(serialization.Encoding.DER)
    return Card(pem=made.public_bytes(serialization.Encoding.PEM).decode(), id=hashlib.sha256(der).hexdigest())


@dataclass
class Broker:
    """A local broker that may ask everything, on a device where the component is deployed."""

    device: Any
    sdk: Any

    def configure(self, **configuration: Any) -> None:
        authority = {"caType": ["ECDSA_P256"]}
        self.device.install(AUTH, {"deviceGroups": LAMPS, "certificateAuthority": authority, **configuration})

    def admit(self, thing: str, certificate: Card) -> None:
        """The cloud knows this thing as a client device."""
        self.device.registry.active.add(certificate.pem)
        self.device.registry.attached.add((thing, certificate.id))
        self.device.registry.clients.add(thing)

    def later(self, seconds: float) -> None:
        self.device.now_ms += int(seconds * 1000)

    async def verify(self, pem: str) -> bool:
        credential = model.ClientDeviceCredential(client_device_certificate=pem)
        answer = await self.sdk.call("verify_client_device_identity", credential=credential)
        assert isinstance(answer.is_valid_client_device, bool)
        return answer.is_valid_client_device

    async def token(self, client_id: str | None, pem: str | None) -> str:
        mqtt = model.MQTTCredential(client_id=client_id, certificate_pem=pem, username="u", password="p")
        credential = model.CredentialDocument(mqtt_credential=mqtt)
        answer = await self.sdk.call("get_client_device_auth_token", credential=credential)
        return str(answer.client_device_auth_token)

    async def allows(self, token: str, operation: str, resource: str) -> bool:
        answer = await self.sdk.call(
            "authorize_client_device_action", client_device_auth_token=token, operation=operation, resource=resource
        )
        assert isinstance(answer.is_authorized, bool)
        return answer.is_authorized

    async def certificates(self) -> Any:
        options = model.CertificateOptions(certificate_type="SERVER")
        return await self.sdk.stream("subscribe_to_certificate_updates", certificate_options=options)


@pytest.fixture
async def broker(device: Any) -> AsyncIterator[Broker]:
    device.install(BROKER, {"accessControl": {AUTH: {"p": {"operations": ["*"], "resources": ["*"]}}}})
    broker = Broker(device, await device.client(BROKER))
    broker.configure()
    renewing = asyncio.create_task(device.certificates.run())
    yield broker
    renewing.cancel()
    await asyncio.wait({renewing})


async def test_a_client_device_is_verified_authenticated_and_authorised(broker: Broker) -> None:
    lamp = card()
    broker.admit("lamp-1", lamp)
    assert await broker.verify(lamp.pem)
    token = await broker.token("lamp-1", lamp.pem)
    assert await broker.allows(token, "mqtt:connect", "mqtt:clientId:lamp-1")
    assert await broker.allows(token, "mqtt:publish", "mqtt:topic:lamps/lamp-1/state")
    assert not await broker.allows(token, "mqtt:publish", "mqtt:topic:lamps/lamp-2/state")
    assert not await broker.allows(token, "mqtt:subscribe", "mqtt:topicfilter:lamps/#")
    assert token != await broker.token("lamp-1", lamp.pem)


async def test_a_certificate_may_come_without_its_lines(broker: Broker) -> None:
    lamp = card()
    body = "".join(lamp.pem.splitlines()[1:-1])
    whole = (
        f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(base64.b64decode(body)).decode()}-----END CERTIFICATE-----\n"
    )
    broker.device.registry.active.add(whole)
    assert await broker.verify(body)


@pytest.mark.parametrize(
    ("begins", "ends"),
    [(-3600, -1), (60, 3600)],
    ids=["ended", "not begun"],
)
async def test_a_certificate_outside_its_time_is_not_valid(broker: Broker, begins: int, ends: int) -> None:
    lamp = card(begins, ends)
    broker.admit("lamp-1", lamp)
    assert not await broker.verify(lamp.pem)
    assert broker.device.registry.asked == []


@pytest.mark.parametrize("pem", ["x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "A" * 100_000])
async def test_what_is_no_certificate_is_not_valid(broker: Broker, pem: str) -> None:
    if pem == "x":
        with pytest.raises(model.InvalidArgumentsError):
            await broker.verify(pem)
    else:
        assert not await broker.verify(pem)
    with pytest.raises((model.InvalidCredentialError, model.InvalidArgumentsError)):
        await broker.token("lamp-1", pem)


async def test_what_the_cloud_does_not_vouch_for_is_refused(broker: Broker) -> None:
    unknown, unverified, of_another = card(), card(), card()
    broker.admit("lamp-1", unverified)
    broker.admit("lamp-2", of_another)
    assert not await broker.verify(unknown.pem)
    assert await broker.verify(of_another.pem)
    for client_id, certificate in (
        ("lamp-1", unknown),
        ("lamp-1", unverified),
        ("lamp-1", of_another),
        ("lamp 2", of_another),
        ("l" * 200, of_another),
        (None, of_another),
    ):
        with pytest.raises(model.InvalidCredentialError):
            await broker.token(client_id, certificate.pem)
    assert await broker.token("lamp-2", of_another.pem)


async def test_known_devices_connect_while_the_cloud_is_away_for_as_long_as_they_are_trusted(broker: Broker) -> None:
    lamp, door, stranger = card(), card(), card()
    broker.configure(security={"clientDeviceTrustDurationMinutes": 5})
    broker.admit("lamp-1", lamp)
    broker.admit("lamp-2", door)
    broker.admit("lamp-3", stranger)
    assert await broker.verify(lamp.pem)
    assert await broker.token("lamp-1", lamp.pem)
    assert await broker.verify(door.pem)
    broker.device.registry.is_answering = False
    for is_connected in (True, False):
        broker.device.registry.is_connected = is_connected
        assert await broker.verify(lamp.pem)
        assert await broker.token("lamp-1", lamp.pem)
        assert not await broker.verify(stranger.pem)
        with pytest.raises(model.InvalidCredentialError):
            await broker.token("lamp-2", door.pem)  # whose it is was never asked
    broker.later(301)
    assert not await broker.verify(lamp.pem)
    with pytest.raises(model.InvalidCredentialError):
        await broker.token("lamp-1", lamp.pem)


async def test_what_the_cloud_takes_back_is_known_no_more(broker: Broker) -> None:
    lamp = card()
    broker.admit("lamp-1", lamp)
    assert await broker.verify(lamp.pem)
    assert await broker.token("lamp-1", lamp.pem)
    broker.device.registry.attached.clear()
    with pytest.raises(model.InvalidCredentialError):
        await broker.token("lamp-1", lamp.pem)
    broker.device.registry.active.clear()
    assert not await broker.verify(lamp.pem)
    broker.device.registry.is_answering = False
    assert not await broker.verify(lamp.pem)
    with pytest.raises(model.InvalidCredentialError):
        await broker.token("lamp-1", lamp.pem)


async def test_a_daily_look_keeps_who_is_a_client_device_and_forgets_the_others(broker: Broker) -> None:
    stays, goes = card(ends=10_000), card(ends=10_000)
    broker.configure(security={"clientDeviceTrustDurationMinutes": 60})
    for thing, each in (("lamp-1", stays), ("lamp-2", goes)):
        broker.admit(thing, each)
        assert await broker.verify(each.pem)
        assert await broker.token(thing, each.pem)
    broker.device.registry.clients.discard("lamp-2")
    broker.later(3000)
    assert await broker.device.devices.refresh()
    broker.device.registry.is_answering = False
    broker.later(3000)
    assert await broker.verify(stays.pem)
    assert await broker.token("lamp-1", stays.pem)
    assert not await broker.verify(goes.pem)
    assert not await broker.device.devices.refresh()


async def test_tokens_are_bounded_and_the_longest_unused_gives_way(broker: Broker) -> None:
    lamp = card()
    broker.admit("lamp-1", lamp)
    broker.configure(performance={"maxActiveAuthTokens": 2})
    assert await broker.verify(lamp.pem)
    first, second = await broker.token("lamp-1", lamp.pem), await broker.token("lamp-1", lamp.pem)
    assert await broker.allows(first, "mqtt:connect", "mqtt:clientId:lamp-1")
    third = await broker.token("lamp-1", lamp.pem)
    for token in (second, "ALLOW_ALL", "x"):
        with pytest.raises(model.InvalidClientDeviceAuthTokenError):
            await broker.allows(token, "mqtt:connect", "mqtt:clientId:lamp-1")
    for token in (first, third):
        assert await broker.allows(token, "mqtt:connect", "mqtt:clientId:lamp-1")


async def test_permissions_are_those_that_are_configured_now(broker: Broker) -> None:
    lamp = card()
    broker.admit("lamp-1", lamp)
    assert await broker.verify(lamp.pem)
    token = await broker.token("lamp-1", lamp.pem)
    broker.configure(deviceGroups={"definitions": {}, "policies": {}})
    assert not await broker.allows(token, "mqtt:connect", "mqtt:clientId:lamp-1")
    with pytest.raises(model.ServiceError):
        await broker.allows(token, "mqtt:publish", "http:topic:a")


async def test_several_questions_go_to_the_cloud_at_once_where_that_is_configured(broker: Broker) -> None:
    broker.configure(performance={"maxConcurrentCloudRequests": 3})
    here, everybody = asyncio.Semaphore(0), asyncio.Barrier(3)

    async def is_active(certificate_pem: str) -> bool:
        here.release()
        async with asyncio.timeout(5):
            await everybody.wait()
        return True

    broker.device.registry.is_active = is_active
    assert await asyncio.gather(*(broker.verify(card().pem) for _ in range(3))) == [True] * 3


async def test_more_questions_than_may_wait_are_refused(broker: Broker) -> None:
    broker.configure(performance={"cloudRequestQueueSize": 1})
    arrived, go = asyncio.Event(), asyncio.Event()

    async def is_active(certificate_pem: str) -> bool:
        arrived.set()
        await go.wait()
        return True

    broker.device.registry.is_active = is_active
    first = asyncio.create_task(broker.verify(card().pem))
    async with asyncio.timeout(5):
        await arrived.wait()
    second = asyncio.create_task(broker.verify(card().pem))
    with pytest.raises(model.ServiceError):
        while not second.done():
            await asyncio.sleep(0)
            await broker.verify(card().pem)
    go.set()
    assert await first
    assert await second


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("verify_client_device_identity", {}),
        ("verify_client_device_identity", {"credential": model.ClientDeviceCredential(client_device_certificate="")}),
        ("get_client_device_auth_token", {}),
        (
            "get_client_device_auth_token",
            {"credential": model.CredentialDocument(mqtt_credential=model.MQTTCredential(client_id="a"))},
        ),
        ("authorize_client_device_action", {"operation": "mqtt:connect", "resource": "mqtt:clientId:a"}),
        ("authorize_client_device_action", {"client_device_auth_token": "t", "resource": "mqtt:clientId:a"}),
        ("authorize_client_device_action", {"client_device_auth_token": "t", "operation": "mqtt:connect"}),
    ],
)
async def test_arguments_are_checked(broker: Broker, operation: str, fields: dict[str, Any]) -> None:
    with pytest.raises(model.InvalidArgumentsError):
        await broker.sdk.call(operation, **fields)


async def test_subscriptions_need_their_options(broker: Broker) -> None:
    for options in (None, model.CertificateOptions(), model.CertificateOptions(certificate_type="CLIENT")):
        with pytest.raises(model.InvalidArgumentsError):
            await broker.sdk.stream("subscribe_to_certificate_updates", certificate_options=options)


async def test_every_call_needs_a_policy_and_it_is_asked_for_before_the_arguments(broker: Broker) -> None:
    client = await broker.device.client(C)
    for operation in (
        "verify_client_device_identity",
        "get_client_device_auth_token",
        "authorize_client_device_action",
    ):
        with pytest.raises(model.UnauthorizedError):
            await client.call(operation)
    with pytest.raises(model.UnauthorizedError):
        await client.stream("subscribe_to_certificate_updates")


async def test_a_server_gets_its_certificate_at_once_and_clients_can_check_it(broker: Broker, tmp_path: Path) -> None:
    broker.device.now_ms = int(datetime.now(UTC).timestamp() * 1000)
    broker.device.certificates.serve(("192.0.2.7", "gateway.local"))
    events = await broker.certificates()
    update = (await events.next()).certificate_update
    names = (
        ("private.key", update.private_key),
        ("server.pem", update.certificate),
        ("ca.pem", update.ca_certificates[0]),
    )
    for name, text in names:
        (tmp_path / name).write_text(text)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=tmp_path / "ca.pem")
    server.load_cert_chain(tmp_path / "server.pem", tmp_path / "private.key")
    for host in ("localhost", "gateway.local", "192.0.2.7"):
        shake_hands(server, client, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client, "example.com")
    certificate = x509.load_pem_x509_certificate(update.certificate.encode())
    public = certificate.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert public.decode() == update.public_key
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == BROKER
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("192.0.2.7")]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=7)
    folder = broker.device.folder / "work"
    assert (folder / "ca.pem").read_text() == update.ca_certificates[0]
    assert (folder / "ca.key").stat().st_mode & 0o777 == 0o600
    await events.close()


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """A TLS handshake in memory."""
    pipes = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(pipes[0], pipes[1], server_hostname=host),
        server.wrap_bio(pipes[1], pipes[0], server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


async def test_certificates_are_renewed_before_they_end_with_the_same_key(
    broker: Broker, until: Callable[[Callable[[], object]], Awaitable[None]]
) -> None:
    events = await broker.certificates()
    first = (await events.next()).certificate_update
    broker.later(6 * 24 * 3600 - 10)
    broker.device.certificates.reconfigure()
    assert not await broker.verify(card().pem)
    assert events.waiting == 0
    broker.later(20)
    broker.device.certificates.reconfigure()
    second = (await events.next()).certificate_update
    broker.device.certificates.serve(("gateway.local",))
    third = (await events.next()).certificate_update
    assert len({first.certificate, second.certificate, third.certificate}) == 3
    assert b"gateway.local" in x509.load_pem_x509_certificate(third.certificate.encode()).public_bytes(
        serialization.Encoding.DER
    )
    assert (second.private_key, second.ca_certificates) == (first.private_key, first.ca_certificates)
    await events.close()
    await until(lambda: not broker.device.certificates.has_subscribers)


async def test_another_authority_is_told_to_subscribers_and_survives_a_restart(broker: Broker) -> None:
    events = await broker.certificates()
    first = (await events.next()).certificate_update
    broker.configure(certificateAuthority={"caType": ["RSA_2048"]})
    broker.device.certificates.reconfigure()
    second = (await events.next()).certificate_update
    assert second.ca_certificates != first.ca_certificates
    authority = x509.load_pem_x509_certificate(second.ca_certificates[0].encode())
    assert not isinstance(authority.public_key(), ec.EllipticCurvePublicKey)
    broker.configure(
        certificateAuthority={
            "caType": ["RSA_2048"],
            "certificateUri": "file:///none.pem",
            "privateKeyUri": "file:///none.key",
        }
    )
    with pytest.raises(model.ServiceError):
        await broker.certificates()
    folder = broker.device.folder / "work"
    broker.configure(
        certificateAuthority={
            "certificateUri": (folder / "ca.pem").as_uri(),
            "privateKeyUri": (folder / "ca.key").as_uri(),
        }
    )
    brought = (await (await broker.certificates()).next()).certificate_update
    assert brought.ca_certificates == second.ca_certificates


async def test_components_that_were_given_a_certificate_here_may_do_everything(broker: Broker) -> None:
    broker.device.registry.is_answering = False
    events = await broker.certificates()
    own = (await events.next()).certificate_update.certificate
    assert await broker.verify(own)
    token = await broker.token("any client id", own)
    assert await broker.allows(token, "mqtt:subscribe", "mqtt:topicfilter:#")
    broker.later(8 * 24 * 3600)
    assert not await broker.verify(own)
