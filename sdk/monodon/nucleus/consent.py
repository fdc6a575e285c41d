"""Asking components whether a deployment may go on: may they be updated now, and is their new configuration right.

Source: section 5.6 of the device notes; case 54.
"""

import asyncio
import logging

from monodon.core.deployment import Deployment, UpdateAction
from monodon.core.plan import Target
from monodon.core.target import validated_changes
from monodon.errors import DeploymentError
from monodon.nucleus.hooks import Hooks

_log = logging.getLogger(__name__)


class Consent:
    """What components have to say to one deployment after the other."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        #: Deployments that components were asked about, and are told the end of.
        self._notified: set[str] = set()

    def awaited(self) -> str:
        """Who still has to agree."""
        return self._hooks.awaited()

    async def to_update(self, deployment: Deployment) -> None:
        """Wait for components that want the deployment deferred."""
        policy = deployment.update_policy
        if policy.action is not UpdateAction.NOTIFY_COMPONENTS:
            return
        self._notified.add(deployment.deployment_id)
        while (recheck_s := await self._hooks.ask_update(deployment.deployment_id, policy.timeout_s)) > 0:
            who = self._hooks.awaited()
            _log.info("deployment %s is deferred by %.1f s: %s", deployment.deployment_id, recheck_s, who)
            await asyncio.sleep(recheck_s)

    async def to_configure(self, deployment: Deployment, before: Target, goal: Target) -> None:
        """Have components look at the configuration that they are to get.

        Raises:
            DeploymentError: one refuses it (COMPONENT_CONFIGURATION_NOT_VALID).
        """
        for name, configuration in validated_changes(before, goal).items():
            refusal = await self._hooks.validate(
                name, configuration, deployment.deployment_id, deployment.validation_timeout_s
            )
            if refusal is not None:
                raise DeploymentError(
                    f"{name} does not accept its new configuration: {refusal}",
                    codes=("COMPONENT_CONFIGURATION_NOT_VALID",),
                )

    async def ended(self, deployment_id: str) -> None:
        """Tell those that were asked about a deployment that it is over."""
        if deployment_id in self._notified:
            self._notified.discard(deployment_id)
            await self._hooks.updated(deployment_id)
