"""Dynamic thing groups, the index and effective policies, by boto3."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from monodon.cloud.iot import dynamic_groups

ACCOUNT = "123456789012"
GROUP_ARN = f"arn:aws:iot:us-east-1:{ACCOUNT}:thinggroup/seals"
REGISTRY = {"thingIndexingMode": "REGISTRY"}


@pytest.fixture
async def cloud(tmp_path: Path, run_cloud: Any) -> AsyncIterator[Any]:
    async with run_cloud(tmp_path / "state") as cloud:
        yield cloud


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def add(cloud: Any, thing: str, **attributes: str) -> None:
    cloud.iot.create_thing(thingName=thing, attributePayload={"attributes": attributes})


def members(cloud: Any, group: str = "seals") -> list[str]:
    return list(cloud.iot.list_things_in_thing_group(thingGroupName=group)["things"])


async def test_membership_follows_every_change_of_a_thing(cloud: Any) -> None:
    def work() -> None:
        iot = cloud.iot
        make = {"thingGroupName": "seals", "queryString": "attributes.model:seal*"}
        assert refused(lambda: iot.create_dynamic_thing_group(**make)) == "InvalidRequestException"  # indexing is off
        iot.update_indexing_configuration(thingIndexingConfiguration=REGISTRY)
        add(cloud, "one", model="seal-1")
        add(cloud, "two", model="walrus")
        made = iot.create_dynamic_thing_group(**make)
        assert (made["indexName"], made["queryVersion"]) == ("AWS_Things", "2017-09-30")
        assert iot.create_dynamic_thing_group(**make)["thingGroupId"] == made["thingGroupId"]
        assert members(cloud) == ["one"]
        add(cloud, "three", model="seal-3")
        iot.update_thing(thingName="two", attributePayload={"attributes": {"model": "seal-2"}})
        iot.update_thing(thingName="one", attributePayload={"attributes": {"model": "walrus"}})
        assert members(cloud) == ["three", "two"]
        described = iot.describe_thing_group(thingGroupName="seals")
        assert (described["status"], described["queryString"]) == ("ACTIVE", "attributes.model:seal*")
        update = {"thingGroupName": "seals", "thingGroupProperties": {"thingGroupDescription": "d"}}
        assert iot.update_dynamic_thing_group(**update, queryString="thingName:o*")["version"] == 2
        assert members(cloud) == ["one"]
        stale = {**update, "expectedVersion": 1}
        assert refused(lambda: iot.update_dynamic_thing_group(**stale)) == "VersionConflictException"
        bad = {**make, "queryString": "colour:red"}
        assert refused(lambda: iot.create_dynamic_thing_group(**bad)) == "InvalidQueryException"
        pair = {"thingGroupName": "seals", "thingName": "two"}
        assert refused(lambda: iot.add_thing_to_thing_group(**pair)) == "InvalidRequestException"
        child = {"thingGroupName": "child", "parentGroupName": "seals"}
        assert refused(lambda: iot.create_thing_group(**child)) == "InvalidRequestException"
        assert refused(lambda: iot.delete_thing_group(thingGroupName="seals")) == "InvalidRequestException"
        off = {"thingIndexingConfiguration": {"thingIndexingMode": "OFF"}}
        assert refused(lambda: iot.update_indexing_configuration(**off)) == "InvalidRequestException"
        iot.delete_thing(thingName="one")
        assert members(cloud) == []
        iot.delete_dynamic_thing_group(thingGroupName="seals")
        assert refused(lambda: iot.describe_thing_group(thingGroupName="seals")) == "ResourceNotFoundException"

    await cloud.off_loop(work)


async def test_shadows_and_groups_move_things_in_and_out(cloud: Any) -> None:
    def work() -> None:
        indexed = {
            "thingIndexingMode": "REGISTRY_AND_SHADOW",
            "namedShadowIndexingMode": "ON",
            "thingConnectivityIndexingMode": "STATUS",
            "filter": {"namedShadowNames": ["metrics"]},
        }
        cloud.iot.update_indexing_configuration(thingIndexingConfiguration=indexed)
        add(cloud, "one")
        low = "shadow.reported.battery:<20 OR shadow.name.metrics.reported.keep:[0 TO 0.5]"
        cloud.iot.create_dynamic_thing_group(thingGroupName="seals", queryString=low)
        away = "connectivity.connected:false"
        cloud.iot.create_dynamic_thing_group(thingGroupName="away", queryString=away)
        assert (members(cloud), members(cloud, "away")) == ([], ["one"])
        for name, key, value, expected in (
            (None, "battery", 10, ["one"]),
            (None, "battery", 90, []),
            ("metrics", "keep", 0.25, ["one"]),
        ):
            payload = json.dumps({"state": {"reported": {key: value}}})
            shadow = {} if name is None else {"shadowName": name}
            cloud.client_of("iot-data").update_thing_shadow(thingName="one", payload=payload, **shadow)
            assert members(cloud) == expected
        found = cloud.iot.search_index(queryString=low)["things"][0]
        assert json.loads(found["shadow"])["name"]["metrics"]["reported"] == {"keep": 0.25}
        assert found["connectivity"] == {"connected": False}
        assert cloud.iot.describe_index(indexName="AWS_Things")["schema"].startswith("REGISTRY_AND_SHADOW")

    await cloud.off_loop(work)


async def test_late_joiners_get_the_deployment_of_a_dynamic_group(cloud: Any) -> None:
    def deployments(thing: str) -> dict[str, str]:
        listed = cloud.greengrassv2.list_effective_deployments(coreDeviceThingName=thing)["effectiveDeployments"]
        return {each["targetArn"].rpartition("/")[2]: each["coreDeviceExecutionStatus"] for each in listed}

    def work() -> None:
        cloud.iot.update_indexing_configuration(thingIndexingConfiguration=REGISTRY)
        for thing, model in (("one", "seal"), ("two", "walrus")):
            add(cloud, thing, model=model)
            cloud.report_health(thing)
        cloud.iot.create_dynamic_thing_group(thingGroupName="seals", queryString="attributes.model:seal")
        cloud.greengrassv2.create_deployment(targetArn=GROUP_ARN, components={})
        assert (deployments("one"), deployments("two")) == ({"seals": "QUEUED"}, {})
        cloud.iot.update_thing(thingName="two", attributePayload={"attributes": {"model": "seal"}})
        cloud.iot.update_thing(thingName="one", attributePayload={"attributes": {"model": "walrus"}})
        assert (deployments("one"), deployments("two")) == ({}, {"seals": "QUEUED"})

    await cloud.off_loop(work)


async def test_a_large_group_is_filled_in_slices_and_after_a_restart(tmp_path: Path, run_cloud: Any) -> None:
    count = 3 * dynamic_groups._SLICE
    async with run_cloud(tmp_path / "state") as cloud:

        def work() -> None:
            cloud.iot.update_indexing_configuration(thingIndexingConfiguration=REGISTRY)

        await cloud.off_loop(work)
        registry = cloud._parts._registry
        with registry.store.transaction():
            for number in range(count):
                record = {"id": str(number), "attributes": {}, "type": None, "version": 1}
                registry.things.put(f"t{number:05}", record)
        cloud._parts.dynamic_groups.create_dynamic_thing_group(
            {"thingGroupName": "all", "queryString": "thingName:t*"}, None
        )
        assert registry.group("all")["building_after"] is not None  # and now it is stopped
        assert len(registry.members_of("all")) < count
    async with run_cloud(tmp_path / "state") as cloud:

        def done() -> None:
            for _ in range(200):
                if cloud.iot.describe_thing_group(thingGroupName="all")["status"] == "ACTIVE":
                    break
            pages = cloud.iot.get_paginator("list_things_in_thing_group").paginate(thingGroupName="all")
            assert sum(len(page["things"]) for page in pages) == count

        await cloud.off_loop(done)


async def test_the_index_is_searched_and_counted(cloud: Any) -> None:
    def work() -> None:
        iot = cloud.iot
        assert refused(lambda: iot.search_index(queryString="*")) == "IndexNotReadyException"
        assert iot.get_indexing_configuration()["thingIndexingConfiguration"]["thingIndexingMode"] == "OFF"
        both = {"thingIndexingConfiguration": {**REGISTRY, "thingConnectivityIndexingMode": "STATUS"}}
        iot.update_indexing_configuration(**both, thingGroupIndexingConfiguration={"thingGroupIndexingMode": "ON"})
        assert iot.list_indices()["indexNames"] == ["AWS_Things", "AWS_ThingGroups"]
        for number in range(5):
            add(cloud, f"t{number}", model="seal" if number % 2 else "walrus")
        iot.create_thing_group(thingGroupName="arctic")
        first = iot.search_index(queryString="thingName:t*", maxResults=3)
        rest = iot.search_index(queryString="thingName:t*", nextToken=first["nextToken"])
        names = [each["thingName"] for each in first["things"] + rest["things"]]
        assert names == [f"t{number}" for number in range(5)]
        assert "nextToken" not in rest
        groups = iot.search_index(indexName="AWS_ThingGroups", queryString="thingGroupName:arc*")["thingGroups"]
        assert [each["thingGroupName"] for each in groups] == ["arctic"]
        assert iot.get_statistics(queryString="attributes.model:seal")["statistics"]["count"] == 2
        assert iot.get_cardinality(queryString="*", aggregationField="attributes.model")["cardinality"] == 2
        terms = {"termsAggregation": {"maxBuckets": 1}}
        buckets = iot.get_buckets_aggregation(
            queryString="*", aggregationField="attributes.model", bucketsAggregationType=terms
        )
        assert (buckets["totalCount"], buckets["buckets"]) == (5, [{"keyValue": "walrus", "count": 3}])
        assert refused(lambda: iot.search_index(queryString="(")) == "InvalidQueryException"
        assert refused(lambda: iot.describe_index(indexName="other")) == "ResourceNotFoundException"

    await cloud.off_loop(work)


async def test_effective_policies_and_thing_types(cloud: Any) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})

    def work() -> None:
        iot = cloud.iot
        cloud.add_drone("drone-1", "drones")
        certificate = iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
        iot.attach_thing_principal(thingName="drone-1", principal=certificate)
        for name, target in (("own", certificate), ("group", GROUP_ARN.replace("seals", "drones"))):
            iot.create_policy(policyName=name, policyDocument=document)
            iot.attach_policy(policyName=name, target=target)
        both = iot.get_effective_policies(principal=certificate, thingName="drone-1")["effectivePolicies"]
        assert [(each["policyName"], each["policyDocument"]) for each in both] == [
            ("group", document),
            ("own", document),
        ]
        of_thing = iot.get_effective_policies(thingName="drone-1")["effectivePolicies"]
        assert [each["policyName"] for each in of_thing] == ["group"]
        assert refused(lambda: iot.get_effective_policies(thingName="nobody")) == "ResourceNotFoundException"
        iot.create_thing_type(thingTypeName="buoy")
        assert refused(lambda: iot.delete_thing_type(thingTypeName="buoy")) == "InvalidRequestException"
        iot.deprecate_thing_type(thingTypeName="buoy")
        assert iot.describe_thing_type(thingTypeName="buoy")["thingTypeMetadata"]["deprecated"] is True
        typed = {"thingName": "b", "thingTypeName": "buoy"}
        assert refused(lambda: iot.create_thing(**typed)) == "InvalidRequestException"
        assert refused(lambda: iot.delete_thing_type(thingTypeName="buoy")) == "InvalidRequestException"
        cloud.clock.offset = 301
        iot.delete_thing_type(thingTypeName="buoy")
        assert refused(lambda: iot.describe_thing_type(thingTypeName="buoy")) == "ResourceNotFoundException"

    await cloud.off_loop(work)
