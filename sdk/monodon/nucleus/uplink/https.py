"""What the nucleus asks of the cloud over HTTPS: candidates, thing groups, documents, artifacts, role credentials.

The Greengrass data plane and the credential provider know the device by its certificate; presigned URLs need nothing;
S3 gets requests signed with the role's credentials.

Source: Greengrass nucleus, ``componentmanager/ComponentServiceHelper.java``, ``builtins/ArtifactDownloader.java``,
``GreengrassRepositoryDownloader.java``, ``S3Downloader.java``, ``tes/CredentialRequestHandler.java``.
"""

import asyncio
import base64
import binascii
import hashlib
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from monodon.core.json import Json
from monodon.core.large_document import ALGORITHM, MAX_DOCUMENT_BYTES, configuration_path
from monodon.errors import ConfigurationError, DeploymentError, NetworkError
from monodon.nucleus.identity import CloudIdentity
from monodon.nucleus.uplink.answers import (
    api_error,
    artifact_error,
    candidate_error,
    check_service,
    read_credentials,
    read_large_document,
    read_object,
)
from monodon.nucleus.uplink.exchange import Answer, Exchange, Request, TooLarge, on_thread
from monodon.nucleus.uplink.protocol import Candidate, CandidateRequest, RoleCredentials
from monodon.nucleus.uplink.s3 import object_address, signed_get
from monodon.nucleus.uplink.signing import endpoint, signed

#: Role credentials are asked for anew this long before they end.
CREDENTIALS_MARGIN = timedelta(minutes=5)
#: What AWS's data plane is told on the port of all HTTPS; elsewhere nothing. Source: ``ProxyUtils.java``, developer
#: guide, "Allow device traffic through a proxy or firewall".
TLS_PORT, ALPN = 443, "x-amzn-http-ca"
#: 10 MB come in this time at 280 kbit/s.
DOCUMENT_TIMEOUT_S = 300.0


class DataPlane:
    """The device's HTTPS calls, each with a deadline."""

    def __init__(
        self,
        cloud: CloudIdentity,
        *,
        thing: str,
        environment: Mapping[str, str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now`` tells once how long credentials last; from then on ``clock`` counts, which never jumps."""
        self._now, self._clock = now, clock
        self._cloud = cloud
        self._thing = thing
        self._environment = environment
        self._base = f"https://{cloud.data_plane_host}:{cloud.data_plane_port}"
        self._credentials: RoleCredentials | None = None
        self._credentials_end_s = 0.0
        self._credentials_lock = asyncio.Lock()

    def check_certificate(self) -> None:
        """Make sure that the device's files can be used.

        Raises:
            ConfigurationError: the certificate, its key or the CA cannot.
        """
        cloud = self._cloud
        try:
            _ = self._device_context
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the device's certificate {cloud.certificate}, its key {cloud.private_key} or the CA {cloud.root_ca} "
                f"cannot be used: {error}",
                hint="they must be PEM, the key an EC P-256, P-384 or RSA one that belongs to the certificate",
            ) from error

    # --- the data plane ------------------------------------------------------------------------------------------

    async def candidate(self, request: CandidateRequest) -> Candidate:
        """The version of one component that the cloud chooses.

        Raises:
            DeploymentError: no version fits, none is for this platform, or the device may not ask.
            NetworkError: no answer, or one that makes no sense; trying again may help.
        """
        wanted: dict[str, Json] = {
            "componentName": request.name,
            "versionRequirements": dict(request.requirements),
        }
        if request.local_version is not None:
            wanted["componentVersion"] = request.local_version
        body = {"platform": {"attributes": dict(request.platform)}, "componentCandidates": [wanted]}
        answer = await self.call("POST", "/greengrass/v2/resolveComponentCandidates", body)
        if answer.status != HTTPStatus.OK:
            raise candidate_error(request, answer)
        found = read_object(answer).get("resolvedComponentVersions")
        if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], Mapping):
            raise DeploymentError(
                f"the cloud answered the question for {request.name} with other than one version",
                codes=("RESOLVE_COMPONENT_CANDIDATES_BAD_RESPONSE",),
                types=("CLOUD_SERVICE_ERROR",),
            )
        try:
            return Candidate(
                arn=str(found[0]["arn"]),
                name=str(found[0]["componentName"]),
                version=str(found[0]["componentVersion"]),
                recipe_text=base64.b64decode(found[0]["recipe"], validate=True),
            )
        except (KeyError, TypeError, binascii.Error) as error:
            raise NetworkError(f"the cloud's answer for {request.name} cannot be read: {error!r}") from error

    async def thing_groups(self) -> tuple[str, ...]:
        """Names of the thing groups that the device is in, parents of those included.

        Raises:
            DeploymentError, NetworkError: as `candidate`.
        """
        names: dict[str, None] = {}
        token: str | None = None
        while True:
            query = "?maxResults=100" + (f"&nextToken={quote(token, safe='')}" if token else "")
            path = f"/greengrass/v2/coreDevices/{quote(self._thing, safe='')}/thingGroups{query}"
            answer = await self.call("GET", path)
            if answer.status != HTTPStatus.OK:
                raise api_error("ListThingGroupsForCoreDevice", answer)
            body = read_object(answer)
            try:
                for group in body.get("thingGroups") or ():
                    parents = group.get("rootToParentThingGroups") or ()
                    names.update(dict.fromkeys(str(each["thingGroupName"]) for each in (group, *parents)))
            except (AttributeError, KeyError, TypeError) as error:
                raise NetworkError(f"the cloud's list of thing groups cannot be read: {error!r}") from error
            token = body.get("nextToken")
            if not token:
                return tuple(names)

    async def document(self, deployment_id: str) -> bytes:
        """The whole document of a deployment that was too large to be sent; asked for once more if it came damaged.

        Raises:
            DeploymentError: the device may not have it, it is too large, or comes damaged again.
            NetworkError: as `candidate`.
        """
        path = configuration_path(self._thing, deployment_id)
        for is_last in (False, True):
            answer = await self.call("GET", path)
            if answer.status != HTTPStatus.OK:
                raise api_error("GetDeploymentConfiguration", answer)
            url, digest = read_large_document(answer)
            text, problem = await self._document_at(url)
            if text is not None:
                found = base64.b64encode((await asyncio.to_thread(hashlib.sha256, text)).digest()).decode()
                if found == digest:
                    return text
                problem = f"its {ALGORITHM} is {found}, the cloud says {digest}"
            if is_last:
                break
        raise DeploymentError(
            f"the whole document of deployment {deployment_id} cannot be fetched: {problem}",
            codes=("DOWNLOAD_DEPLOYMENT_DOCUMENT_ERROR",),
            types=("HTTP_ERROR",),
        )

    async def _document_at(self, url: str) -> tuple[bytes | None, str]:
        """What a presigned URL gives, or None and why."""
        exchange = Exchange(
            Request(url=url, limit_bytes=MAX_DOCUMENT_BYTES), lambda: self._public_context, self._cloud.proxy
        )
        try:
            answer = await on_thread(exchange, exchange.fetch, timeout_s=DOCUMENT_TIMEOUT_S)
        except TooLarge:
            raise DeploymentError(
                f"the deployment's document has more than {MAX_DOCUMENT_BYTES} bytes",
                codes=("DEPLOYMENT_DOCUMENT_SIZE_EXCEEDED",),
                types=("CLOUD_SERVICE_ERROR",),
                hint="make the configuration smaller, or put it into an artifact",
            ) from None
        check_service(answer, "the document's server")
        return (answer.body, "") if answer.status == HTTPStatus.OK else (None, f"its server answered {answer.status}")

    async def call(self, method: str, path: str, body: Json = None) -> Answer:
        """Ask the data plane with the device's certificate; what the answer's status means is the caller's.

        Raises:
            NetworkError: no answer, or one that may be another later.
        """
        request = Request(
            url=self._base + path,
            method=method,
            headers={"Accept": "application/json", **({} if body is None else {"Content-Type": "application/json"})},
            body=None if body is None else json.dumps(body).encode(),
        )
        answer = await self._fetch(request, lambda: self._plane_context)
        check_service(answer, f"{method} {path}")
        return answer

    async def ask_service(self, service: str, request: Request) -> Answer:
        """Ask another service of AWS (its signing name), signed with the device's role; otherwise as `call`.

        Raises:
            NetworkError: also where the device has no role alias.
        """
        credentials = await self.credentials()
        if credentials is None:
            raise NetworkError(
                f"{service} cannot be asked: the device has no role alias",
                hint="set iotRoleAlias and iotCredEndpoint in config.yaml",
            )
        address = endpoint(service, region=self._cloud.region, environment=self._environment)
        asked = replace(request, url=address + request.url)
        exchange = Exchange(
            await signed(asked, credentials, service=service, region=self._cloud.region),
            lambda: self._public_context,
            self._cloud.proxy,
        )
        answer = await on_thread(exchange, exchange.fetch)
        check_service(answer, f"{service} at {address}")
        return answer

    async def _fetch(self, request: Request, context: Callable[[], ssl.SSLContext]) -> Answer:
        exchange = Exchange(request, context, self._cloud.proxy)
        return await on_thread(exchange, exchange.fetch)

    # --- artifacts -----------------------------------------------------------------------------------------------

    async def download(self, uri: str, arn: str | None, destination: Path, offset: int) -> None:
        """Append an artifact's bytes from ``offset`` on to ``destination``.

        Raises:
            DeploymentError: there is no such artifact, or the device may not read it.
            NetworkError: the transfer broke; what came is in the file.
        """
        scheme, _, rest = uri.partition(":")
        match scheme.lower():
            case "greengrass":
                request = await self._presigned(rest, arn)
                answer = await self._save(request, destination, offset)
            case "s3":
                answer = await self._from_s3(uri, destination, offset)
            case _:
                raise DeploymentError(
                    f"{uri}: artifacts come from s3: and greengrass: alone",
                    codes=("UNSUPPORTED_ARTIFACT_SCHEME",),
                )
        if answer.status >= HTTPStatus.BAD_REQUEST and answer.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise artifact_error(uri, answer)

    async def _presigned(self, name: str, arn: str | None) -> Request:
        if arn is None:
            raise DeploymentError(
                f"greengrass:{name} belongs to a component version that the cloud does not know",
                codes=("ARTIFACT_DOWNLOAD_ERROR",),
            )
        path = f"/greengrass/v2/components/{quote(arn, safe='')}/artifacts/{quote(name)}"
        answer = await self.call("GET", path)
        if answer.status != HTTPStatus.OK:
            raise api_error("GetComponentVersionArtifact", answer)
        url = read_object(answer).get("preSignedUrl")
        if not isinstance(url, str):
            raise NetworkError(f"the cloud gave no URL for the artifact {name}")
        return Request(url=url)

    async def _from_s3(self, uri: str, destination: Path, offset: int) -> Answer:
        credentials = await self.credentials()
        if credentials is None:
            raise DeploymentError(
                f"{uri} cannot be read: the device has no role alias",
                codes=("ARTIFACT_DOWNLOAD_ERROR", "DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD"),
                types=("DEVICE_ERROR",),
                hint="set iotRoleAlias and iotCredEndpoint in config.yaml",
            )
        address = object_address(uri, region=self._cloud.region, environment=self._environment)
        answer = await self._save(await signed_get(address, credentials), destination, offset)
        elsewhere = answer.headers.get("x-amz-bucket-region")
        if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST and elsewhere:
            address = object_address(uri, region=elsewhere, environment=self._environment)
            answer = await self._save(await signed_get(address, credentials), destination, offset)
        return answer

    async def _save(self, request: Request, destination: Path, offset: int) -> Answer:
        headers = {**request.headers, **({"Range": f"bytes={offset}-"} if offset else {})}
        ranged = Request(url=request.url, headers=headers)
        exchange = Exchange(ranged, lambda: self._public_context, self._cloud.proxy)
        answer = await on_thread(exchange, partial(exchange.save, destination, offset), timeout_s=None)
        check_service(answer, "an artifact's server")
        return answer

    # --- role credentials ----------------------------------------------------------------------------------------

    async def credentials(self) -> RoleCredentials | None:
        """The device's role credentials, cached until near their end; None without a role alias.

        Raises:
            NetworkError: the credential provider refused or did not answer.
        """
        cloud = self._cloud
        if cloud.role_alias is None or cloud.credentials_host is None:
            return None
        async with self._credentials_lock:
            if self._credentials is None or self._clock() > self._credentials_end_s:
                host = f"{cloud.credentials_host}:{cloud.credentials_port}"
                answer = await self._fetch(
                    Request(
                        url=f"https://{host}/role-aliases/{quote(cloud.role_alias, safe='')}/credentials",
                        headers={"x-amzn-iot-thingname": self._thing},
                    ),
                    lambda: self._device_context,
                )
                self._credentials = read_credentials(answer)
                lasts = self._credentials.expiration - CREDENTIALS_MARGIN - self._now()
                self._credentials_end_s = self._clock() + lasts.total_seconds()
            return self._credentials

    @cached_property
    def _device_context(self) -> ssl.SSLContext:
        return self._new_device_context()

    def _new_device_context(self) -> ssl.SSLContext:
        cloud = self._cloud
        context = ssl.create_default_context(cafile=str(cloud.root_ca))
        context.load_cert_chain(cloud.certificate, cloud.private_key)
        return context

    @cached_property
    def _plane_context(self) -> ssl.SSLContext:
        if self._cloud.data_plane_port != TLS_PORT:
            return self._device_context
        context = self._new_device_context()
        context.set_alpn_protocols([ALPN])
        return context

    @cached_property
    def _public_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.load_verify_locations(self._cloud.root_ca)
        return context
