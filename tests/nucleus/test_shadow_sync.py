"""Shadows of a whole nucleus and those of the embedded cloud, over MQTT: both directions, deletes, time apart."""

import asyncio
import json
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from awsiot.greengrasscoreipc import connect
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from monodon.cloud.broker.identity import Identity as Client
from monodon.cloud.broker.server import Broker
from monodon.cloud.certificates import MQTT_PROTOCOLS, CertificateAuthority
from monodon.cloud.iot_data import SHADOW_TOPICS, IotData
from monodon.cloud.store import Store
from monodon.core.configuration import EMPTY
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.semver import Version
from monodon.core.shadow import Shadow
from monodon.nucleus.identity import NUCLEUS
from monodon.nucleus.nucleus import TOOL, Nucleus, running
from monodon.nucleus.shadow_sync import SHADOW_MANAGER

THING = "drone-1"
CORE = {"synchronize": {"coreThing": {"classic": True, "namedShadows": ["lamp"]}}}
DEADLINE_S = 20.0

pytestmark = pytest.mark.slow


class Site:
    """A device's root, and the cloud that it belongs to: a broker that comes and goes, and its shadows."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.authority = CertificateAuthority.open(folder)
        self.store = Store.open(folder / "cloud")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        device = self.authority.issue(THING)
        (self.root / "config").mkdir(parents=True)
        (self.root / "thing.crt").write_text(device.certificate_pem)
        (self.root / "thing.key").write_text(device.private_key_pem)
        system = {
            "certificateFilePath": "thing.crt",
            "privateKeyPath": "thing.key",
            "rootCaPath": str(self.authority.ca_file),
            "thingName": THING,
        }
        settings = {"awsRegion": "eu-west-1", "iotDataEndpoint": "localhost", "mqtt": {"port": self.port}}
        document = {"system": system, "services": {NUCLEUS: {"configuration": settings}}}
        (self.root / "config/config.yaml").write_text(yaml.safe_dump(document))
        self.requests: list[str] = []
        self.times: list[float] = []
        self.data = IotData(store=self.store, broker=self._broker(), now=lambda: 1000)

    def _broker(self) -> Broker:
        self.broker = Broker(
            store=self.store,
            authenticate=lambda der: Client(certificate_id="c", thing_names=(THING,)),
            authorise=lambda client, action, resource: True,
        )
        return self.broker

    @asynccontextmanager
    async def online(self) -> AsyncIterator[None]:
        """The cloud can be reached; each time by a broker of its own, over the same store."""
        context = self.authority.server_context(client_certificate=ssl.CERT_REQUIRED, protocols=MQTT_PROTOCOLS)
        self.data = IotData(store=self.store, broker=self._broker(), now=lambda: 1000)

        def handle(client: Client, topic: str, payload: bytes) -> None:
            self.requests.append(topic)
            self.times.append(asyncio.get_running_loop().time())
            self.data.handle(client, topic, payload)

        self.broker.reserve(SHADOW_TOPICS, handle)
        async with self.broker.listen("127.0.0.1", self.port, context):
            yield

    def cloud(self, name: str) -> Any:
        """The state of a shadow in the cloud, None where there is none."""
        return state_of(self.data.shadow(THING, name or None))

    def at(self, verb: str) -> list[float]:
        """When requests for named shadows with that verb came."""
        both = zip(self.requests, self.times, strict=True)
        return [at for topic, at in both if "/shadow/name/" in topic and "AWSManaged" not in topic and verb in topic]

    def change_cloud(self, name: str, **sections: Json) -> None:
        request = {"thingName": THING, "shadowName": name or None, "payload": json.dumps({"state": sections})}
        self.data.update_thing_shadow(request, None)  # type: ignore[arg-type]

    def delete_cloud(self, name: str) -> None:
        self.data.delete_thing_shadow({"thingName": THING, "shadowName": name or None}, None)  # type: ignore[arg-type]


def state_of(shadow: Shadow | None) -> Any:
    return shadow and {"desired": shadow.desired.state, "reported": shadow.reported.state}


def here(nucleus: Nucleus, name: str) -> Any:
    return state_of(nucleus.shadows.find(THING, name))


def change_here(nucleus: Nucleus, name: str, **sections: Json) -> None:
    nucleus.shadows.update(THING, name, json.dumps({"state": sections}).encode())


def configure(nucleus: Nucleus, configuration: Json) -> None:
    nucleus.state.put_installed(
        Installed(
            name=ComponentName(SHADOW_MANAGER),
            version=Version(2, 3, 11),
            configuration=EMPTY.merge((), configuration, at_ms=1),
        )
    )
    nucleus.shadow_sync.reconfigure()


@pytest.fixture
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    site = Site(folder)
    yield site
    site.store.close()
    shutil.rmtree(folder)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


@pytest.mark.parametrize("name", ["", "lamp"])
async def test_changes_and_deletes_go_both_ways(site: Site, until: Any, name: str) -> None:
    async with site.online(), running(site.root) as nucleus:
        configure(nucleus, CORE)
        change_here(nucleus, name, reported={"on": False})
        await until(lambda: site.cloud(name) == {"desired": {}, "reported": {"on": False}})
        site.change_cloud(name, desired={"on": True, "hue": {"r": 1, "g": 2}})
        await until(lambda: here(nucleus, name) == site.cloud(name))
        assert here(nucleus, name)["desired"] == {"on": True, "hue": {"r": 1, "g": 2}}
        change_here(nucleus, name, desired={"hue": {"g": None}}, reported={"on": True})
        await until(lambda: here(nucleus, name) == site.cloud(name))
        assert site.cloud(name) == {"desired": {"on": True, "hue": {"r": 1}}, "reported": {"on": True}}
        nucleus.shadows.delete(THING, name)
        await until(lambda: site.cloud(name) is None)
        site.change_cloud(name, desired={"again": 1})
        await until(lambda: here(nucleus, name) == {"desired": {"again": 1}, "reported": {}})
        site.delete_cloud(name)
        await until(lambda: here(nucleus, name) is None)


async def test_what_changed_apart_is_united_and_a_restart_forgets_nothing(site: Site, until: Any) -> None:
    async with AsyncExitStack() as stack:
        nucleus = await stack.enter_async_context(running(site.root))
        configure(nucleus, CORE)
        async with site.online():
            change_here(nucleus, "lamp", desired={"a": 0, "b": 0}, reported={"r": 0})
            await until(lambda: site.cloud("lamp") is not None)
        change_here(nucleus, "lamp", desired={"a": 1}, reported={"r": 1, "mine": 1})
        site.change_cloud("lamp", desired={"a": 2, "b": None}, reported={"r": 2})
    async with running(site.root) as nucleus:
        change_here(nucleus, "lamp", reported={"later": True})
        async with site.online():
            await until(lambda: here(nucleus, "lamp") == site.cloud("lamp"))
        assert here(nucleus, "lamp") == {"desired": {"a": 2}, "reported": {"r": 1, "mine": 1, "later": True}}


async def test_only_what_is_configured_and_nothing_comes_back_as_an_echo(site: Site, until: Any) -> None:
    async with site.online(), running(site.root) as nucleus:
        change_here(nucleus, "lamp", reported={"n": 1})
        change_here(nucleus, "other", reported={"n": 1})
        configure(nucleus, {"synchronize": {"coreThing": {"classic": False, "namedShadows": ["lamp"]}}})
        await until(lambda: site.cloud("lamp") is not None)
        change_here(nucleus, "lamp", reported={"n": 2})
        await until(lambda: site.cloud("lamp")["reported"] == {"n": 2})
        prefix = f"$aws/things/{THING}/shadow/name/lamp"
        ours = [topic for topic in site.requests if not topic.startswith(f"{prefix[:-4]}AWSManaged")]
        assert ours == [f"{prefix}/get", f"{prefix}/update"] * 2
        assert (site.cloud("other"), site.cloud("")) == (None, None)
        configure(nucleus, {})
        change_here(nucleus, "lamp", reported={"n": 3})
        configure(nucleus, {"synchronize": {"coreThing": {"namedShadows": ["other"]}}})
        await until(lambda: site.cloud("other") is not None)
        assert site.cloud("lamp")["reported"] == {"n": 2}


async def test_one_direction_overwrites_the_other_side(site: Site, until: Any) -> None:
    async with site.online(), running(site.root) as nucleus:
        site.change_cloud("lamp", desired={"a": 1})
        configure(nucleus, {"synchronize": {**CORE["synchronize"], "direction": "cloudToDevice"}})
        await until(lambda: here(nucleus, "lamp") == {"desired": {"a": 1}, "reported": {}})
        change_here(nucleus, "lamp", reported={"x": 1})
        await until(lambda: here(nucleus, "lamp") == {"desired": {"a": 1}, "reported": {}})
        assert site.cloud("lamp") == {"desired": {"a": 1}, "reported": {}}


async def test_a_device_that_only_tells_listens_to_nobody(site: Site, until: Any) -> None:
    async with site.online(), running(site.root) as nucleus:
        change_here(nucleus, "lamp", reported={"n": 1})
        configure(nucleus, {"synchronize": {**CORE["synchronize"], "direction": "deviceToCloud"}})
        await until(lambda: site.cloud("lamp") == {"desired": {}, "reported": {"n": 1}})
        site.change_cloud("lamp", desired={"on": True})
        change_here(nucleus, "", reported={"x": 1})
        await until(lambda: site.cloud("") == {"desired": {}, "reported": {"x": 1}})
        assert site.cloud("lamp") == {"desired": {"on": True}, "reported": {"n": 1}}
        assert here(nucleus, "lamp") == {"desired": {}, "reported": {"n": 1}}
        change_here(nucleus, "lamp", reported={"n": 2})
        await until(lambda: site.cloud("lamp") == {"desired": {}, "reported": {"n": 2}})
        assert here(nucleus, "lamp") == {"desired": {}, "reported": {"n": 2}}


async def test_a_periodic_strategy_gathers_changes_until_it_is_time(site: Site, until: Any) -> None:
    async with site.online(), running(site.root) as nucleus:
        change_here(nucleus, "lamp", reported={"n": 1})
        configure(nucleus, {**CORE, "strategy": {"type": "periodic", "delay": 0.7}})
        await until(lambda: site.cloud("lamp") is not None)
        for number in (2, 3, 4):
            change_here(nucleus, "lamp", reported={"n": number})
        assert site.cloud("lamp")["reported"] == {"n": 1}
        await until(lambda: site.cloud("lamp")["reported"] == {"n": 4})
        first, second = site.at("/update")
        assert second - first >= 0.6


async def test_no_more_goes_to_the_cloud_than_the_rate_allows(site: Site, until: Any) -> None:
    """Five at once, then one each fifth of a second."""
    names = [f"s{number}" for number in range(4)]
    async with site.online(), running(site.root) as nucleus:
        for name in names:
            change_here(nucleus, name, reported={"n": 1})
        synchronize = {"coreThing": {"classic": False, "namedShadows": names}}
        configure(nucleus, {"synchronize": synchronize, "rateLimits": {"maxOutboundSyncUpdatesPerSecond": 5}})
        await until(lambda: all(site.cloud(name) is not None for name in names))
        times = site.at("/")
        assert len(times) == 8
        assert times[-1] - times[0] >= 0.55


async def test_a_deployment_of_the_shadow_manager_says_what_is_synchronised(site: Site, until: Any) -> None:
    async with site.online(), running(site.root) as nucleus:
        change_here(nucleus, "lamp", reported={"n": 1})
        token = nucleus.tokens.of(TOOL)
        client = GreengrassCoreIPCClientV2(
            client=await asyncio.to_thread(connect, ipc_socket=str(nucleus.socket), authtoken=token)
        )
        deployment = client.create_local_deployment_async(
            root_component_versions_to_add={SHADOW_MANAGER: "2.3.11"},
            component_to_configuration={SHADOW_MANAGER: {"MERGE": CORE}},
        )
        await asyncio.wrap_future(deployment)
        await until(lambda: site.cloud("lamp") == {"desired": {}, "reported": {"n": 1}})
        await asyncio.to_thread(client.close)
