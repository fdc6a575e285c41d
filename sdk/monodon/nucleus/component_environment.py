"""What every component finds in its environment, whatever its recipe says.

Source: rules E3 and E4 of the device notes; our IPC notes, section 1.
"""

from pathlib import Path

from monodon.nucleus.identity import Identity
from monodon.nucleus.settings import Settings


def nucleus_variables(
    identity: Identity, socket: Path, credentials_uri: str | None, settings: Settings
) -> dict[str, str]:
    """The variables that are the same for all components of this device."""
    cloud = identity.cloud
    is_fips = "true" if str(settings.get("fipsMode")).lower() == "true" else "false"
    variables = {
        **({} if cloud is None or cloud.proxy is None else cloud.proxy.environment()),
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(socket),
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH": str(socket),
        "AWS_IOT_THING_NAME": identity.thing,
        "AWS_USE_FIPS_ENDPOINT": is_fips,
        "AWS_GG_FIPS_MODE": is_fips,
        "GGC_VERSION": identity.version,
        "GG_ROOT_CA_PATH": "" if cloud is None else str(cloud.root_ca),
    }
    if identity.region:
        variables |= {"AWS_REGION": identity.region, "AWS_DEFAULT_REGION": identity.region}
    if credentials_uri is not None:
        variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = credentials_uri
    return variables


def token_variables(token: str) -> dict[str, str]:
    """The variables by which one component shows who it is, to IPC and to the credential endpoint."""
    return {"SVCUID": token, "AWS_CONTAINER_AUTHORIZATION_TOKEN": token}
