"""The parts that carry out deployments, composed."""

import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from monodon.core.target import Device
from monodon.nucleus.application import DISK_PAUSE_S, Application
from monodon.nucleus.conclusion import Conclusion
from monodon.nucleus.consent import Consent
from monodon.nucleus.deployer import Deployer
from monodon.nucleus.hooks import NO_HOOKS, Hooks, Progress
from monodon.nucleus.patience import Patience
from monodon.nucleus.preparation import Preparation
from monodon.nucleus.reporting import Reporting
from monodon.nucleus.restarting import RestartPath
from monodon.nucleus.state import DeviceState
from monodon.nucleus.store import Store
from monodon.nucleus.transition import STEADY_S, Supervisor
from monodon.nucleus.uplink.protocol import Uplink


def deployer(
    *,
    state: DeviceState,
    store: Store,
    supervisor: Supervisor,
    uplink: Uplink,
    platform: Mapping[str, str],
    thing: str,
    root: Path,
    report: Callable[[Progress], Awaitable[None]] | None = None,
    hooks: Hooks = NO_HOOKS,
    restart: Callable[[int], None] | None = None,
    region: str | None = None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    timeout_s: Callable[[], float | None] = lambda: None,
    steady_s: float = STEADY_S,
    disk_pause_s: float = DISK_PAUSE_S,
    at: Callable[[str], None] = lambda point: None,
) -> Deployer:
    """Compose a deployer; its ``run`` does the work.

    Args:
        platform: the device's attributes (``platform_of``, with platformOverride).
        report: told of every change of status, the last time when all is committed; for status messages.
        restart: asks for a restart of the nucleus (100) or the device (101); None where there can be none.
        timeout_s: asked how long a deployment may take that says nothing itself; None is without end, as AWS's.
        steady_s: how long what has a Run must go on running to count as settled.
        disk_pause_s: how long to wait before a disk is asked again to take what a rollback has to write.
        at: called with a name at each point where being killed must do no harm (crash tests).
    """
    patience = Patience(configured=timeout_s)
    reporting, consent = Reporting(uplink, report), Consent(hooks)
    application = Application(
        state=state, supervisor=supervisor, patience=patience, steady_s=steady_s, disk_pause_s=disk_pause_s, at=at
    )
    device = _device(platform, thing, root, store)
    return Deployer(
        state=state,
        supervisor=supervisor,
        patience=patience,
        reporting=reporting,
        preparation=Preparation(
            state=state, store=store, uplink=uplink, device=device, region=region, now_ms=now_ms, at=at
        ),
        consent=consent,
        application=application,
        restarts=RestartPath(application=application, supervisor=supervisor, restart=restart),
        conclusion=Conclusion(state=state, store=store, reporting=reporting, consent=consent, at=at),
        now_ms=now_ms,
        at=at,
    )


def _device(platform: Mapping[str, str], thing: str, root: Path, store: Store) -> Device:
    return Device(
        platform=platform,
        thing=thing,
        root=str(root),
        artifacts=lambda name, version: str(store.artifacts_path(name, version)),
        unarchived=lambda name, version: str(store.unarchived_path(name, version)),
        work=lambda name: str(store.work_path(name)),
    )
