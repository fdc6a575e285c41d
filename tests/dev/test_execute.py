"""``monodon dev exec``: a command of a shell as a component of a nucleus."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import monodon

pytestmark = pytest.mark.slow

SDK = Path(monodon.__file__).parents[1]
CLI = "from monodon.cli import run; from monodon.cli.dev import command; run(command)"

#: A program that knows AWS's client alone.
PLAIN = """
import os, sys, threading
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import JsonMessage, PublishMessage
client = GreengrassCoreIPCClientV2()
got = threading.Event()
client.subscribe_to_iot_core(topic_name="cloud/#", qos="1", on_stream_event=lambda event: got.set())
client.publish_to_iot_core(topic_name="cloud/a", qos="1", payload=b"1")
assert got.wait(10)
client.publish_to_topic(topic="a", publish_message=PublishMessage(json_message=JsonMessage(message={})))
client.update_state(state="RUNNING")
response = client.get_configuration(key_path=["answer"])
print(response.component_name, response.value, os.getcwd(), os.environ["AWS_IOT_THING_NAME"], sys.stdin.read())
client.close()
sys.exit(7)
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the nucleus makes its root; short, for the socket's sake."""
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    yield folder
    shutil.rmtree(folder)


def line(*arguments: str) -> list[str]:
    return [sys.executable, "-c", CLI, "exec", *arguments]


def environment(temporary: Path) -> Mapping[str, str]:
    return {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(SDK)}


def run(temporary: Path, *arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        line(*arguments),
        env=environment(temporary),
        cwd=cwd,
        input="typed",
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_a_program_with_aws_client_alone_runs_as_a_component(temporary: Path, tmp_path: Path) -> None:
    options = ["--name", "com.example.Plain", "--thing", "laptop", "--config", '{"answer": 42}']
    done = run(temporary, *options, "--", sys.executable, "-c", PLAIN, cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout == f"com.example.Plain {{'answer': 42}} {tmp_path} laptop typed\n"
    assert done.returncode == 7
    assert list(temporary.iterdir()) == []


#: A tool's program: its deployments do not name the component that it is itself.
DEPLOYS = """
import time
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
client = GreengrassCoreIPCClientV2()
made = client.create_local_deployment().deployment_id
while (found := client.get_local_deployment_status(deployment_id=made).deployment).status in ("QUEUED", "IN_PROGRESS"):
    time.sleep(0.02)
print(found.status, [(each.component_name, each.state) for each in client.list_components().components])
client.close()
"""


def test_a_command_that_deploys_stays_a_component(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "deploys.py").write_text(DEPLOYS)
    result = run(temporary, "--", sys.executable, str(tmp_path / "deploys.py"))
    assert result.stdout == "SUCCEEDED [('com.example.Dev', 'RUNNING')]\n", result.stderr


def test_what_access_control_does_not_list_is_refused_with_what_would_allow_it(temporary: Path, tmp_path: Path) -> None:
    policy = {"publish": {"operations": ["aws.greengrass#PublishToIoTCore"], "resources": ["cloud/*"]}}
    file = tmp_path / "access.yaml"
    file.write_text(json.dumps({"accessControl": {"aws.greengrass.ipc.mqttproxy": policy}}))
    done = run(temporary, "--access-control", str(file), "--", sys.executable, "-c", PLAIN)
    assert done.returncode == 1
    assert "UnauthorizedError" in done.stderr
    assert 'operations: ["aws.greengrass#SubscribeToIoTCore"]' in done.stderr


def test_a_component_of_ours_runs_too(temporary: Path) -> None:
    main = Path(__file__).parents[1] / "component" / "echo" / "main.py"
    done = run(temporary, "--config", '{"trouble": "error"}', "--", sys.executable, str(main))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: labels.txt has 3 labels, the model 1000",
        "hint: publish both again",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--", "no-such-command"], 127, "error: no such command: no-such-command"),
        (["--", "/"], 126, "error: / cannot be run"),
        (["--", "sh", "-c", "kill -9 $$"], 137, ""),
        (["--config", "{", "--", "true"], 1, "error: --config {: "),
        (["--name", "a b", "--", "true"], 1, "error: 'a b' is not a component name"),
    ],
)
def test_exit_codes_are_those_of_a_shell(temporary: Path, arguments: list[str], code: int, message: str) -> None:
    done = run(temporary, *arguments)
    assert done.returncode == code
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr
    assert list(temporary.iterdir()) == []


def gone(temporary: Path) -> bool:
    return not list(temporary.iterdir())


def test_a_script_without_an_interpreter_is_one_clear_error(temporary: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    done = run(temporary, "--", str(script))
    assert done.returncode == 126
    assert done.stderr.startswith(f"error: {script} cannot be run: Exec format error\nhint: ")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_for_the_command_and_nothing_stays(temporary: Path, which: signal.Signals) -> None:
    trap = f"trap 'echo clean; exit 3' {which.name.removeprefix('SIG')}"
    command = line("--", "sh", "-c", f"{trap}; echo here; while :; do sleep 0.05; done")
    with subprocess.Popen(command, env=environment(temporary), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(which)
        assert process.stdout.read() == "clean\n"
        assert process.wait(30) == 3
    assert gone(temporary)


def test_the_nucleus_does_not_outlive_who_started_it(temporary: Path) -> None:
    command = line("--", "sh", "-c", "echo here; sleep 1")
    with subprocess.Popen(command, env=environment(temporary), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
    deadline = time.monotonic() + 30
    while not gone(temporary) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gone(temporary)
