"""The ways to the cloud: the uplink, what else is asked of a cloud, and the endpoint that hands out its credentials."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from monodon.nucleus.client_devices import Registry
from monodon.nucleus.cloud_secrets import SecretSource
from monodon.nucleus.identity import Identity
from monodon.nucleus.journal import Journal
from monodon.nucleus.services.token_exchange import TokenExchange
from monodon.nucleus.tokens import Tokens
from monodon.nucleus.uplink.offline import OfflineUplink
from monodon.nucleus.uplink.protocol import Uplink


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudServices:
    """What is asked of a cloud besides what an uplink does; None where there is no cloud."""

    registry: Registry | None = None
    secrets: SecretSource | None = None


async def enter_uplink(
    identity: Identity, journal: Journal, environment: Mapping[str, str], stack: AsyncExitStack
) -> tuple[Uplink, CloudServices]:
    """The way to the cloud, and what else is asked of it. A device without a cloud loads nothing of all that."""
    if identity.cloud is None:
        return OfflineUplink(), CloudServices()
    from monodon.nucleus.uplink.client_devices import CloudRegistry
    from monodon.nucleus.uplink.mqtt import MqttUplink
    from monodon.nucleus.uplink.secrets import SecretsManager

    uplink = MqttUplink(identity=identity, cloud=identity.cloud, records=journal, environment=environment)
    services = CloudServices(
        registry=CloudRegistry(uplink.data_plane, identity.thing), secrets=SecretsManager(uplink.data_plane)
    )
    return await stack.enter_async_context(uplink), services


async def serve_credentials(identity: Identity, tokens: Tokens, uplink: Uplink, stack: AsyncExitStack) -> str | None:
    """Open the endpoint where components find credentials; return its address, None where there is no role."""
    if identity.cloud is None or identity.cloud.role_alias is None:
        return None
    exchange = TokenExchange(authenticate=tokens.owner, credentials=uplink.credentials)
    return await stack.enter_async_context(exchange.serving())
