"""A root folder remembers that it is that of a device of a cloud: without config.yaml it must not become another."""

import logging

from monodon.core.json import Json
from monodon.errors import ConfigurationError, StateError
from monodon.nucleus.identity import CONFIG_FILE, Identity
from monodon.nucleus.journal import Journal

_LOG = logging.getLogger(__name__)
_KEY = "device/identity"


def remember(journal: Journal, identity: Identity, *, is_configured: bool) -> None:
    """Note whose root folder this is, or refuse to begin as a device without a cloud where there was one.

    Args:
        is_configured: whether config.yaml is there. One that names no cloud is the operator's own decision.

    Raises:
        ConfigurationError: the file is gone, and this was a device of a cloud.
    """
    known: Json | None = journal.get(_KEY)
    if identity.cloud is None and not is_configured and known is not None:
        raise ConfigurationError(
            f"{CONFIG_FILE} is gone, and this is the root folder of {known['thing']}, a device of "
            f"{known['endpoint']}: without it nothing would reach the cloud any more",
            hint="restore the file, give it again by --init-config, or choose another --root for a device of its own",
        )
    cloud = identity.cloud
    try:
        journal.write({_KEY: None if cloud is None else {"thing": identity.thing, "endpoint": cloud.data_endpoint}})
    except StateError as error:
        _LOG.warning("%s", error)
