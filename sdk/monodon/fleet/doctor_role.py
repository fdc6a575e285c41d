"""Do devices get their role, and may it read the artifacts? Asks IAM to simulate, or reads the policies itself."""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from monodon.core.iot_policy import Policy, PolicyError, allowed, read_policy
from monodon.core.names import partition_of
from monodon.fleet.aws import Aws, is_missing
from monodon.fleet.on_device import Level, Verdict

_TRUSTED = "credentials.iot.amazonaws.com"
#: Stands for any object: a key that no policy names.
_ANY_KEY = "\ue000/\ue001"


def examine_role(aws: Aws, alias: str, buckets: Sequence[str]) -> Iterator[Verdict]:
    """Yield what is found of a role alias, its role, and ``s3:GetObject`` on the objects of each bucket.

    Raises:
        ClientError: AWS refuses a call for another reason than that something is missing.
    """
    check = f"role alias {alias}"
    try:
        arn = str(aws.iot.describe_role_alias(roleAlias=alias)["roleAliasDescription"]["roleArn"])
    except ClientError as error:
        if not is_missing(error):
            raise
        yield Verdict(check=check, level=Level.WRONG, message="there is none", fix="monodon fleet provision makes it")
        return
    name = arn.rpartition("/")[2]
    try:
        role = aws.iam.get_role(RoleName=name)["Role"]
    except ClientError as error:
        if not is_missing(error):
            raise
        message, fix = (
            f"it names {arn}, and there is no such role",
            "monodon fleet provision makes MonodonTokenExchange",
        )
        yield Verdict(check=check, level=Level.WRONG, message=message, fix=fix)
        return
    yield Verdict(check=check, level=Level.FINE, message=f"gives the role {name}")
    yield judge_trust(name, role["AssumeRolePolicyDocument"])
    for bucket in buckets:
        yield _examine_bucket(aws, arn, name, bucket)


def judge_trust(role: str, document: Any) -> Verdict:
    """Say whether AWS IoT may hand out a role's credentials, by its trust policy (read, or as text)."""
    check = f"role {role}: trust"
    trust = json.loads(unquote(document)) if isinstance(document, str) else document
    found = trust.get("Statement", []) if isinstance(trust, dict) else []
    for statement in found if isinstance(found, list) else [found]:
        principal = statement.get("Principal")
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        services = [services] if isinstance(services, str) else services
        actions = statement.get("Action", [])
        assumes = "sts:AssumeRole" in ([actions] if isinstance(actions, str) else actions)
        if statement.get("Effect") == "Allow" and _TRUSTED in services and assumes:
            return Verdict(check=check, level=Level.FINE, message=f"{_TRUSTED} may take it on")
    return Verdict(
        check=check,
        level=Level.WRONG,
        message=f"{_TRUSTED} may not take it on",
        fix="add to the role's trust policy:",
        statement={"Effect": "Allow", "Principal": {"Service": _TRUSTED}, "Action": "sts:AssumeRole"},
    )


def _examine_bucket(aws: Aws, arn: str, role: str, bucket: str) -> Verdict:
    check, partition = f"s3:GetObject on {bucket}", partition_of(aws.region)
    objects = f"arn:{partition}:s3:::{bucket}/*"
    try:
        aws.s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if is_missing(error):
            fix = "monodon fleet provision makes it"
            return Verdict(check=check, level=Level.WRONG, message="there is no such bucket", fix=fix)
    is_allowed, how = _may_read(aws, arn, role, objects)
    if is_allowed:
        return Verdict(check=check, level=Level.FINE, message=f"the role {role} may ({how})")
    return Verdict(
        check=check,
        level=Level.WRONG,
        message=f"the role {role} may not ({how})",
        fix=f"add to a policy of the role {role}:",
        statement={"Effect": "Allow", "Action": "s3:GetObject", "Resource": objects},
    )


def _may_read(aws: Aws, arn: str, role: str, objects: str) -> tuple[bool, str]:
    """Return whether a role may read any object, and how that was found out."""
    try:
        answer = aws.iam.simulate_principal_policy(
            PolicySourceArn=arn, ActionNames=["s3:GetObject"], ResourceArns=[objects]
        )
        return answer["EvaluationResults"][0]["EvalDecision"] == "allowed", "simulated by IAM"
    except ClientError as error:
        reason = error.response["Error"]["Code"]
    except ResponseParserError:  # an IAM that has no such operation, and says so in its own words
        reason = "no answer of IAM's"
    documents = list(_documents(aws, role))
    policies: list[Policy] = []
    for _, document in documents:
        try:
            policies.append(read_policy(document))
        except PolicyError:
            continue
    names = ", ".join(name for name, _ in documents) or "no policy"
    how = f"IAM would not simulate it ({reason}): read from {names}; without bucket policies and boundaries"
    return allowed(policies, "s3:GetObject", objects.removesuffix("*") + _ANY_KEY, {}), how


def _documents(aws: Aws, role: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each policy of a role."""
    for page in aws.iam.get_paginator("list_role_policies").paginate(RoleName=role):
        for name in page["PolicyNames"]:
            document = aws.iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            yield name, _text(document)
    for page in aws.iam.get_paginator("list_attached_role_policies").paginate(RoleName=role):
        for one in page["AttachedPolicies"]:
            version = aws.iam.get_policy(PolicyArn=one["PolicyArn"])["Policy"]["DefaultVersionId"]
            found = aws.iam.get_policy_version(PolicyArn=one["PolicyArn"], VersionId=version)
            yield one["PolicyName"], _text(found["PolicyVersion"]["Document"])


def _text(document: Any) -> str:
    """Return a policy's text: botocore reads the documents of IAM into objects."""
    return document if isinstance(document, str) else json.dumps(document)
