"""A whole nucleus as a real process: components, environment, restarts, kills, and what it costs."""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from awsiot.greengrasscoreipc import connect
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from monodon.cloud.broker.identity import Identity as Client
from monodon.cloud.broker.server import Broker
from monodon.cloud.certificates import MQTT_PROTOCOLS, CertificateAuthority
from monodon.cloud.store import Store
from monodon.errors import StateError
from monodon.nucleus.identity import NUCLEUS
from monodon.nucleus.nucleus import running
from monodon.nucleus.root import MAX_SOCKET_PATH_BYTES
from monodon.nucleus.tokens import Tokens

DEADLINE_S = 30.0
ENDED = ("SUCCEEDED", "FAILED", "CANCELED")
COMMAND = (sys.executable, "-m", "monodon", "nucleus", "run")

pytestmark = pytest.mark.slow


def until(condition: Callable[[], Any]) -> Any:
    """What ``condition`` gives as soon as it is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


class Driven:
    """A nucleus process, and deployments to it over IPC, as a tool of its user makes them."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.root = root
        self.process = subprocess.Popen(
            [*COMMAND, "--root", str(root), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise AssertionError(self.process.communicate()[1])
        self.ready = until(self._is_ready)

    def _is_ready(self) -> dict[str, Any]:
        """What ``ready.json`` says; nothing while a nucleus that was ready restarts itself for a Bootstrap step."""
        try:
            found: dict[str, Any] = json.loads((self.root / "ready.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def deploy(self, recipes: Path, *, remove: tuple[str, ...] = (), **versions: str) -> tuple[str, str | None]:
        """Deploy these components from their recipes; the status and, if it failed, why."""
        with self.client() as client:
            created = client.create_local_deployment(
                root_component_versions_to_add=versions,
                root_components_to_remove=list(remove),
                recipe_directory_path=str(recipes),
                failure_handling_policy="ROLLBACK",
            )
            key = created.deployment_id
            ended = until(
                lambda: (d := client.get_local_deployment_status(deployment_id=key).deployment).status in ENDED and d
            )
        return ended.status, ended.deployment_status_details.deployment_failure_cause

    @contextmanager
    def client(self) -> Iterator[GreengrassCoreIPCClientV2]:
        """AWS's own client with the credentials of this user's tools."""
        (file,) = (self.root / "cli_ipc_info").iterdir()
        assert file.stat().st_mode & 0o077 == 0
        found = json.loads(file.read_text())
        client = GreengrassCoreIPCClientV2(
            client=connect(ipc_socket=found["domain_socket_path"], authtoken=found["cli_auth_token"])
        )
        try:
            yield client
        finally:
            client.close()

    def work(self, name: str, file: str) -> Path:
        return self.root / "work" / name / file

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the nucleus, wait for its end; its exit code."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=DEADLINE_S)
        assert number == signal.SIGKILL or "Traceback" not in errors, errors
        return self.process.returncode


@contextmanager
def driven(root: Path, *arguments: str) -> Iterator[Driven]:
    nucleus = Driven(root, *arguments)
    try:
        yield nucleus
    finally:
        if nucleus.process.poll() is None:
            nucleus.process.kill()
            nucleus.process.communicate()


def write_recipe(
    folder: Path, name: str, version: str = "1.0.0", *, configuration: Any = None, **lifecycle: Any
) -> Path:
    folder.mkdir(exist_ok=True)
    recipe = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": name,
        "ComponentVersion": version,
        "ComponentConfiguration": {"DefaultConfiguration": configuration or {}},
        "Manifests": [{"Platform": {"os": "linux"}, "Lifecycle": lifecycle}],
    }
    (folder / f"{name}-{version}.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_component_runs_with_its_environment_and_stops_in_order(tmp_path: Path) -> None:
    recipes = write_recipe(
        tmp_path / "recipes",
        "a",
        Run="env > environment && echo started && trap 'echo stopped > stopped; exit 0' TERM && sleep 100 & wait",
    )
    with driven(tmp_path / "root") as nucleus:
        assert nucleus.deploy(recipes, a="1.0.0") == ("SUCCEEDED", None)
        text = until(lambda: (f := nucleus.work("a", "environment")).exists() and f.read_text())
        until(lambda: "started" in (nucleus.root / "logs/a.log").read_text())
        variables = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        assert nucleus.ready == json.loads((nucleus.root / "ready.json").read_text())
        assert nucleus.end() == 0
    socket = nucleus.ready["ipc_socket"]
    assert variables["AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"] == socket
    assert variables["AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH"] == socket
    assert variables["SVCUID"] == variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    assert len(variables["SVCUID"]) >= 16
    assert (variables["AWS_IOT_THING_NAME"], variables["GG_ROOT_CA_PATH"]) == ("local", "")
    assert variables["GGC_VERSION"] == nucleus.ready["nucleus_version"]
    assert variables["PWD"] == str(nucleus.root / "work/a")
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" not in variables
    assert not (nucleus.root / "ready.json").exists()
    assert not Path(socket).exists()
    assert "stops" in (nucleus.root / "logs/greengrass.log").read_text()


def test_a_component_that_breaks_brings_the_former_set_back(tmp_path: Path) -> None:
    recipes = write_recipe(tmp_path / "recipes", "a", Startup="echo $SVCUID > token")
    write_recipe(recipes, "a", "2.0.0", Startup="echo it hurts >&2; exit 3")
    with driven(tmp_path / "root") as nucleus:
        assert nucleus.deploy(recipes, a="1.0.0") == ("SUCCEEDED", None)
        status, cause = nucleus.deploy(recipes, a="2.0.0")
        assert status == "FAILED"
        assert cause is not None
        assert "a" in cause
        nucleus.work("a", "token").unlink()
        assert nucleus.end() == 0
    with driven(tmp_path / "root") as nucleus:
        until(nucleus.work("a", "token").exists)
        assert nucleus.end() == 0


#: A component on AWS's unmodified SDK: configuration, local and IoT Core topics, its own state.
SPEAKER = """
import json, pathlib, time
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import BinaryMessage, JsonMessage, PublishMessage, UnauthorizedError

client, heard = GreengrassCoreIPCClientV2(), []
def on_local(event): heard.append(["local", event.json_message.message, event.json_message.context.topic])
def on_cloud(event): heard.append(["cloud", event.message.payload.decode(), event.message.topic_name])
client.subscribe_to_topic(topic="talk/speaker", on_stream_event=on_local, on_stream_error=print, on_stream_closed=print)
client.subscribe_to_iot_core(topic_name="far/+", qos="1", on_stream_event=on_cloud, on_stream_error=print,
                             on_stream_closed=print)
word = client.get_configuration(key_path=["word"]).value["word"]
said = PublishMessage(json_message=JsonMessage(message={"w": word}))
client.publish_to_topic(topic="talk/speaker", publish_message=said)
client.publish_to_iot_core(topic_name="far/away", qos="1", payload=word.encode())
try:
    client.publish_to_topic(topic="secret", publish_message=PublishMessage(binary_message=BinaryMessage(message=b"")))
except UnauthorizedError as error:
    heard.append(["refused", error.message, ""])
while len(heard) < 3:
    time.sleep(0.01)
pathlib.Path("heard.json").write_text(json.dumps(heard))
client.update_state(state="RUNNING")
time.sleep(100)
"""


def test_a_component_on_awss_sdk_speaks_with_others_and_reports_its_state(tmp_path: Path) -> None:
    """Startup ends by UpdateState RUNNING over IPC; without a cloud, IoT Core topics go round in memory."""
    (tmp_path / "speaker.py").write_text(SPEAKER)
    access = {
        "aws.greengrass.ipc.pubsub": {
            "speaker:pubsub:1": {
                "operations": ["aws.greengrass#PublishToTopic", "aws.greengrass#SubscribeToTopic"],
                "resources": ["talk/*"],
            }
        },
        "aws.greengrass.ipc.mqttproxy": {
            "speaker:mqttproxy:1": {"operations": ["*"], "resources": ["far/+", "far/away"]}
        },
    }
    recipes = write_recipe(
        tmp_path / "recipes",
        "speaker",
        configuration={"word": "whale", "accessControl": access},
        Startup={"Script": f"exec {sys.executable} {tmp_path}/speaker.py", "Timeout": 20},
    )
    with driven(tmp_path / "root") as nucleus:
        assert nucleus.deploy(recipes, speaker="1.0.0") == ("SUCCEEDED", None)
        heard = {kind: rest for kind, *rest in json.loads(nucleus.work("speaker", "heard.json").read_text())}
        assert heard["local"] == [{"w": "whale"}, "talk/speaker"]
        assert heard["cloud"] == ["whale", "far/away"]
        assert "speaker is not authorized" in heard["refused"][0]
        with nucleus.client() as client:
            (component,) = client.list_components().components
            assert (component.component_name, component.state) == ("speaker", "RUNNING")
        assert nucleus.end() == 0


def test_a_removed_component_is_gone(tmp_path: Path) -> None:
    recipes = write_recipe(tmp_path / "recipes", "a", Run="echo $$ > pid; exec sleep 100")
    with driven(tmp_path / "root") as nucleus:
        nucleus.deploy(recipes, a="1.0.0")
        pid = int(until(lambda: (f := nucleus.work("a", "pid")).exists() and f.read_text()))
        assert nucleus.deploy(recipes, remove=("a",)) == ("SUCCEEDED", None)
        assert not is_alive(pid)
        assert nucleus.end() == 0


def test_after_a_kill_orphans_are_ended_and_everything_starts_again(tmp_path: Path) -> None:
    """``After a nucleus restart everything is NEW``; no process of the dead nucleus goes on beside the new one."""
    recipes = write_recipe(tmp_path / "recipes", "a", Run="echo $$ $SVCUID >> lives; sleep 100")
    with driven(tmp_path / "root") as nucleus:
        nucleus.deploy(recipes, a="1.0.0")
        until(nucleus.work("a", "lives").exists)
        socket = Path(nucleus.ready["ipc_socket"])
        assert nucleus.end(signal.SIGKILL) == -signal.SIGKILL
        pid, token = nucleus.work("a", "lives").read_text().split()
        assert is_alive(int(pid))
        assert socket.exists()
    with driven(tmp_path / "root") as nucleus:
        lives = until(lambda: len(found := nucleus.work("a", "lives").read_text().splitlines()) == 2 and found)
        assert not is_alive(int(pid))
        assert lives[1].split()[1] != token
        assert nucleus.end() == 0
    assert not is_alive(int(lives[1].split()[0]))
    assert not socket.exists()


def test_the_command_restarts_itself_for_a_bootstrap_step(tmp_path: Path) -> None:
    """Section 5.9: exit codes 100 and 101; without a command for a reboot the nucleus alone restarts."""
    recipes = write_recipe(tmp_path / "recipes", "b", Bootstrap="echo b >> booted; exit 101", Run="exec sleep 1000")
    write_recipe(recipes, "c", Bootstrap="exit 100", Startup="true")
    root = tmp_path / "root"
    with driven(root) as nucleus:
        with nucleus.client() as client:
            created = client.create_local_deployment(
                root_component_versions_to_add={"b": "1.0.0", "c": "1.0.0"},
                recipe_directory_path=str(recipes),
            )
        assert nucleus.process.stdout is not None
        for _ in range(3):
            assert nucleus.process.stdout.readline().startswith("monodon nucleus ready")
        with nucleus.client() as client:
            until(
                lambda: (
                    client.get_local_deployment_status(deployment_id=created.deployment_id).deployment.status
                    == "SUCCEEDED"
                )
            )
        assert nucleus.work("b", "booted").read_text() == "b\n"
        assert json.loads((root / "ready.json").read_text())["pid"] == nucleus.process.pid
        assert nucleus.end() == 0
    log = (root / "logs/greengrass.log").read_text()
    assert "the nucleus restarts (101)" in log


def test_the_command_reboots_where_it_is_told_how(tmp_path: Path) -> None:
    recipes = write_recipe(tmp_path / "recipes", "a", Bootstrap="exit 101", Startup="true")
    with driven(tmp_path / "root", "--on-reboot", f"touch {tmp_path}/rebooted") as nucleus:
        with nucleus.client() as client:
            client.create_local_deployment(
                root_component_versions_to_add={"a": "1.0.0"}, recipe_directory_path=str(recipes)
            )
        assert nucleus.process.wait(DEADLINE_S) == 101
        assert (tmp_path / "rebooted").exists()
        nucleus.process.communicate()
    with driven(tmp_path / "root") as again:
        assert again.process.stdout is not None
        assert again.process.stdout.readline().startswith("monodon nucleus ready")
        until(lambda: '"a": "RUNNING"' in json.dumps(states(again)))


def states(nucleus: Driven) -> dict[str, str]:
    with nucleus.client() as client:
        return {one.component_name: one.state for one in client.list_components().components}


def test_a_root_has_one_nucleus(tmp_path: Path) -> None:
    with driven(tmp_path / "root") as nucleus:
        second = subprocess.run(
            [*COMMAND, "--root", str(tmp_path / "root")],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert second.returncode == 1
        assert f"another nucleus (process {nucleus.process.pid}) uses" in second.stderr
        assert (tmp_path / "root/ready.json").exists()
        assert nucleus.end() == 0


def test_a_long_root_gets_a_short_socket_that_goes_again(tmp_path: Path) -> None:
    root = tmp_path / ("deep" * 20) / ("deeper" * 10)
    root.mkdir(parents=True)
    with driven(root) as nucleus:
        socket = Path(nucleus.ready["ipc_socket"])
        assert len(bytes(socket)) <= MAX_SOCKET_PATH_BYTES
        assert socket.exists()
        assert socket.parent.stat().st_mode & 0o066 == 0
        assert nucleus.end() == 0
    assert not socket.parent.exists()


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_command_says_that_it_is_ready_and_ends_with_0(tmp_path: Path, number: int) -> None:
    with command("--root", str(tmp_path / "r"), "--thing", "kelp", "--quiet") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"monodon nucleus ready: kelp in {tmp_path / 'r'}")
        ready = json.loads((tmp_path / "r/ready.json").read_text())
        assert (ready["pid"], ready["thing"], ready["root"]) == (process.pid, "kelp", str(tmp_path / "r"))
        process.send_signal(number)
        assert process.stdout.read() == ""
        assert process.wait(DEADLINE_S) == 0


def test_a_bad_configuration_is_one_line_and_exit_1(tmp_path: Path) -> None:
    initial = tmp_path / "config.yaml"
    initial.write_text("system: {certificateFilePath: x}\nservices: {}\n")
    failed = subprocess.run(
        [*COMMAND, "--root", str(tmp_path / "r"), "--init-config", str(initial)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert failed.returncode == 1
    assert [line.split(":")[0] for line in failed.stderr.splitlines()] == ["error", "hint"]
    assert "system.thingName is missing" in failed.stderr


#: Connects, and says what that took: kB of memory, and which modules a nucleus must not load.
WEIGHED = """
import asyncio, json, sys
from pathlib import Path
from monodon.nucleus.nucleus import running

async def main(root):
    connected = asyncio.Event()
    async with running(root) as nucleus:
        nucleus.uplink.watch_connection(lambda is_connected: connected.set())
        if not nucleus.uplink.is_connected:
            await asyncio.wait_for(connected.wait(), 20)
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        forbidden = sorted({"boto3", "botocore", "numpy", "starlette", "cryptography"} & set(sys.modules))
        print(json.dumps([int(status["VmRSS"].split()[0]), forbidden]))

asyncio.run(main(Path(sys.argv[1])))
"""


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[Path]:
    """A broker, and the root of a device that belongs to it."""
    authority, root = CertificateAuthority.open(folder), folder / "root"
    device = authority.issue("drone-1")
    (root / "config").mkdir(parents=True)
    (root / "thing.crt").write_text(device.certificate_pem)
    (root / "thing.key").write_text(device.private_key_pem)
    context = authority.server_context(client_certificate=ssl.CERT_REQUIRED, protocols=MQTT_PROTOCOLS)
    store = Store.open(folder / "cloud")
    try:
        served = Broker(
            store=store,
            authenticate=lambda der: Client(certificate_id="c", thing_names=("drone-1",)),
            authorise=lambda client, action, resource: True,
        )
        async with served.listen("127.0.0.1", 0, context) as port:
            system = {
                "certificateFilePath": "thing.crt",
                "privateKeyPath": "thing.key",
                "rootCaPath": str(authority.ca_file),
                "thingName": "drone-1",
            }
            settings = {"awsRegion": "eu-west-1", "iotDataEndpoint": "localhost", "mqtt": {"port": port}}
            document = {"system": system, "services": {NUCLEUS: {"configuration": settings}}}
            (root / "config/config.yaml").write_text(yaml.safe_dump(document))
            yield root
    finally:
        store.close()


async def test_a_connected_nucleus_is_light_and_loads_no_boto3(tmp_path: Path) -> None:
    """Idle resident memory below 50 MB with the MQTT client connected."""
    async with broker(tmp_path) as root:
        weighed = await asyncio.create_subprocess_exec(sys.executable, "-c", WEIGHED, str(root), stdout=subprocess.PIPE)
        output, _ = await asyncio.wait_for(weighed.communicate(), DEADLINE_S)
    rss_kb, forbidden = json.loads(output)
    assert forbidden == []
    assert rss_kb < 50_000


async def test_damaged_state_is_refused_and_nothing_is_left_running(tmp_path: Path) -> None:
    async with running(tmp_path) as nucleus:
        assert nucleus.ready["root"] == str(tmp_path)
    file = tmp_path / "config/journal/journal.log"
    file.write_bytes(b"nonsense\n" + file.read_bytes())
    with pytest.raises(StateError):
        async with running(tmp_path):
            pytest.fail("it must not start")
    assert not (tmp_path / "ready.json").exists()
    file.unlink()
    async with running(tmp_path):
        await asyncio.sleep(0)


@pytest.mark.parametrize("path", ["packages", "cli_ipc_info", "ipc.socket"])
async def test_what_is_in_the_way_of_a_start_is_named(tmp_path: Path, path: str) -> None:
    with tempfile.TemporaryDirectory(prefix="mn") as folder:
        (Path(folder) / path).write_text("mine")
        with pytest.raises(StateError, match=path):
            async with running(Path(folder)):
                pytest.fail("it started")
        assert (Path(folder) / path).read_text() == "mine"


def test_tokens_are_each_components_own() -> None:
    tokens = Tokens()
    a, b = tokens.of("a"), tokens.of("b")
    assert a != b
    assert tokens.of("a") == a
    assert (tokens.owner(a), tokens.owner(b), tokens.owner(""), tokens.owner("x")) == ("a", "b", None, None)
    assert set(a) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    tokens.forget("a")
    tokens.forget("a")
    assert tokens.owner(a) is None
    assert tokens.of("a") != a
