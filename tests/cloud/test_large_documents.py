"""Documents that are too large to be sent: what boto3, and a device that asks for all of it, are answered."""

import base64
import hashlib
import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from monodon.core.large_document import configuration_path

ACCOUNT = "123456789012"
GROUP = f"arn:aws:iot:us-east-1:{ACCOUNT}:thinggroup/drones"


def components(size: int) -> dict[str, Any]:
    merge = json.dumps({"text": "x" * size})
    return {"com.example.A": {"componentVersion": "1.0.0", "configurationUpdate": {"merge": merge}}}


def certified(cloud: Any, thing: str, folder: Path) -> ssl.SSLContext:
    """What a device of that name connects with."""
    made = cloud.iot.create_keys_and_certificate(setAsActive=True)
    cloud.iot.attach_thing_principal(thingName=thing, principal=made["certificateArn"])
    for name, text in (("crt", made["certificatePem"]), ("key", made["keyPair"]["PrivateKey"])):
        (folder / f"{thing}.{name}").write_text(text)
    context = ssl.create_default_context(cafile=cloud.ready.ca_file)
    context.load_cert_chain(folder / f"{thing}.crt", folder / f"{thing}.key")
    return context


def get(url: str, context: ssl.SSLContext) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, context=context, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def test_a_device_of_the_target_gets_all_of_it(tmp_path: Path, run_cloud: Any) -> None:
    def work(cloud: Any) -> None:
        cloud.add_drone("drone-1", "drones")
        cloud.add_drone("drone-2", "others")
        made = cloud.greengrassv2.create_deployment(targetArn=GROUP, components=components(40_000))
        deployment_id = made["deploymentId"]
        sent = json.loads(cloud.iot.get_job_document(jobId=made["iotJobId"])["document"])
        assert sent["requiredCapabilities"] == ["LARGE_CONFIGURATION"]
        assert sent["components"] == {"com.example.A": {"version": "1.0.0"}}
        own = cloud.ready.https_endpoint + configuration_path("drone-1", deployment_id)
        context = certified(cloud, "drone-1", tmp_path)
        status, body = get(own, context)
        answer = json.loads(body)
        assert (status, answer["integrityCheck"]["algorithm"]) == (200, "SHA-256")
        status, document = get(answer["preSignedUrl"], ssl.create_default_context(cafile=cloud.ready.ca_file))
        assert status == 200
        assert answer["integrityCheck"]["digest"] == base64.b64encode(hashlib.sha256(document).digest()).decode()
        merge = {"text": "x" * 40_000}
        assert json.loads(document)["components"]["com.example.A"]["configurationUpdate"]["merge"] == merge
        assert cloud.s3.list_buckets()["Buckets"] == []
        other = certified(cloud, "drone-2", tmp_path)
        assert get(own, other)[0] == 403
        assert get(cloud.ready.https_endpoint + configuration_path("drone-2", deployment_id), other)[0] == 404
        cloud.greengrassv2.cancel_deployment(deploymentId=deployment_id)
        cloud.greengrassv2.delete_deployment(deploymentId=deployment_id)
        assert get(own, context)[0] == 404
        assert get(answer["preSignedUrl"], context)[0] == 404

    async with run_cloud(tmp_path / "state") as cloud:
        await cloud.off_loop(lambda: work(cloud))


@pytest.mark.parametrize(("size", "is_large"), [(30_000, False), (31_744, True)])
async def test_what_fits_is_sent_as_it_is(tmp_path: Path, run_cloud: Any, size: int, is_large: bool) -> None:
    def work(cloud: Any) -> None:
        cloud.add_drone("drone-1", "drones")
        made = cloud.greengrassv2.create_deployment(targetArn=GROUP, components=components(size))
        sent = json.loads(cloud.iot.get_job_document(jobId=made["iotJobId"])["document"])
        assert ("LARGE_CONFIGURATION" in sent["requiredCapabilities"]) is is_large

    async with run_cloud(tmp_path / "state") as cloud:
        await cloud.off_loop(lambda: work(cloud))


async def test_what_no_device_takes_is_refused(tmp_path: Path, run_cloud: Any) -> None:
    def work(cloud: Any) -> None:
        cloud.add_drone("drone-1", "drones")
        greengrass = cloud.greengrassv2
        with pytest.raises(greengrass.exceptions.ValidationException, match="at most 10485760 are delivered"):
            greengrass.create_deployment(targetArn=GROUP, components=components(10_485_700))

    async with run_cloud(tmp_path / "state") as cloud:
        await cloud.off_loop(lambda: work(cloud))
