"""One AWS account and region, by way of boto3: the embedded cloud or the real one, which cannot be told apart here."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError

from monodon.core.names import thing_arn, thing_group_arn
from monodon.errors import FleetError


class Aws:
    """Clients of the services a fleet needs, each made on first use."""

    def __init__(
        self, *, endpoint_url: str | None = None, region: str | None = None, profile: str | None = None
    ) -> None:
        """Use boto3's own configuration, unless told otherwise.

        Args:
            endpoint_url: of an embedded cloud; its credentials may be anything, so they need not be configured.
        """
        keys = {"aws_access_key_id": "monodon", "aws_secret_access_key": "local"} if endpoint_url else {}
        # boto3 reads AWS_DEFAULT_REGION alone; every other SDK of AWS, and a core device, say AWS_REGION.
        region = region or os.environ.get("AWS_REGION")
        self._session = boto3.Session(
            botocore_session=_core_session(profile), profile_name=profile, region_name=region, **keys
        )
        self._endpoint_url = endpoint_url
        if self._session.region_name is None:
            raise FleetError("no AWS region is configured", hint="set AWS_REGION, such as AWS_REGION=eu-west-1")

    @property
    def region(self) -> str:
        """The region, such as ``eu-west-1``."""
        return str(self._session.region_name)

    @cached_property
    def account(self) -> str:
        """The account's twelve digits."""
        return str(self._caller["Account"])

    @property
    def operator(self) -> str:
        """The ARN of whoever these credentials are."""
        return str(self._caller["Arn"])

    @cached_property
    def _caller(self) -> Any:
        with told():
            return self._client("sts").get_caller_identity()

    @property
    def bucket(self) -> str:
        """The bucket for artifacts."""
        return f"monodon-{self.account}-{self.region}"

    @cached_property
    def greengrass(self) -> Any:
        """The client of ``greengrassv2``."""
        return self._client("greengrassv2")

    @cached_property
    def iot(self) -> Any:
        """The client of ``iot``."""
        return self._client("iot")

    @cached_property
    def data(self) -> Any:
        """The client of ``iot-data``: shadows."""
        return self._client("iot-data")

    @cached_property
    def iam(self) -> Any:
        """The client of ``iam``."""
        return self._client("iam")

    @cached_property
    def s3(self) -> Any:
        """The client of ``s3``."""
        return self._client("s3")

    def thing_arn(self, name: str) -> str:
        """Return the ARN of a thing of this account."""
        return str(thing_arn(self.region, self.account, name))

    def group_arn(self, name: str) -> str:
        """Return the ARN of a thing group of this account."""
        return str(thing_group_arn(self.region, self.account, name))

    def _client(self, service: str) -> Any:
        config = Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=10,
            read_timeout=60,
            s3={"addressing_style": "path"} if self._endpoint_url else {},
        )
        return self._session.client(service, endpoint_url=self._endpoint_url, config=config)


def _core_session(profile: str | None) -> botocore.session.Session:
    """Make a session that shares what it knows of the services with every other of this process."""
    session = botocore.session.Session(profile=profile)
    session.register_component("data_loader", _models(session.get_config_variable("data_path")))
    return session


@cache
def _models(data_path: str | None) -> Loader:
    """Read the models of the services once: a session of its own takes 0.1 s and 20 MB for the six used here."""
    return create_loader(data_path)


_NO_CREDENTIALS = (
    "sign in to AWS, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (the embedded cloud takes anything)"
)
_SIGN_IN = "get new ones, such as by `aws sso login`, or choose others with AWS_PROFILE"
#: What to do about a refusal, by AWS's code.
_HINTS = {
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "RequestExpired"), f"the credentials are old: {_SIGN_IN}"
    ),
    **dict.fromkeys(
        ("InvalidClientTokenId", "UnrecognizedClientException", "InvalidSignatureException"),
        f"AWS does not take these credentials: {_SIGN_IN}",
    ),
    "AccessDeniedException": "these credentials may not do that; docs/fleet.md lists the permissions",
}


@contextmanager
def told(hint: str | None = None) -> Iterator[None]:
    """Turn what boto3 raises into a FleetError that says which call failed and why."""
    try:
        yield
    except ClientError as error:
        found = error.response["Error"]
        hint = hint or _HINTS.get(found["Code"])
        raise FleetError(f"{error.operation_name} failed: {found['Code']}: {found['Message']}", hint=hint) from error
    except ParamValidationError as error:
        raise FleetError(f"AWS would refuse this: {error}", hint=hint) from error
    except NoCredentialsError as error:
        raise FleetError("there are no AWS credentials", hint=hint or _NO_CREDENTIALS) from error
    except (BotoCoreError, ResponseParserError) as error:
        raise FleetError(
            f"AWS cannot be reached: {_first_line(error)}",
            hint=hint or "check credentials, AWS_REGION and AWS_ENDPOINT_URL",
        ) from error


def _first_line(error: Exception) -> str:
    """What went wrong, without the whole page that a proxy gave instead of an answer."""
    return str(error).partition("\n")[0].removesuffix(" Further retries may succeed:")


def is_missing(error: ClientError) -> bool:
    """Tell whether AWS said that the thing asked for does not exist."""
    return error.response["Error"]["Code"] in ("ResourceNotFoundException", "NoSuchEntity", "404", "NoSuchBucket")


def exists_already(error: ClientError) -> bool:
    """Tell whether AWS refused to make something because it is there."""
    codes = ("ResourceAlreadyExistsException", "EntityAlreadyExists", "BucketAlreadyOwnedByYou")
    return error.response["Error"]["Code"] in codes
