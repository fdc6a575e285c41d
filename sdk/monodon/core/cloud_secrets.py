"""Which secrets of AWS Secrets Manager a core device keeps: ``cloudSecrets`` of aws.greengrass.SecretManager.

Source: aws.greengrass.SecretManager, ``SecretManager.java``; developer guide, "Secret manager".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from monodon.core.json import Json

CURRENT: Final = "AWSCURRENT"
_ARN: Final = re.compile(r"arn:[^:]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[a-zA-Z0-9/_+=,.@-]+")
_SUFFIX: Final = re.compile(r"-[A-Za-z0-9]{6}")
#: More often than this the cloud is not asked by itself.
_LEAST_REFRESH_MIN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSecret:
    """A secret that is kept, and the labels whose versions are; the ARN may lack the six characters at its end."""

    arn: str
    labels: tuple[str, ...] = (CURRENT,)

    def has_arn(self, arn: str) -> bool:
        """Whether a secret's whole ARN is of this one."""
        rest = arn.removeprefix(self.arn)
        return arn == self.arn or (rest != arn and _SUFFIX.fullmatch(rest) is not None)

    def is_called(self, secret_id: str) -> bool:
        """Whether a name or an ARN is this one's."""
        if secret_id.startswith("arn:"):
            return self.has_arn(secret_id)
        rest = self.arn.partition(":secret:")[2].removeprefix(secret_id)
        return self.arn.endswith(f":secret:{secret_id}") or _SUFFIX.fullmatch(rest) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSecretSettings:
    """The secrets to keep, and how often (seconds, or None) to ask for them; ``problems`` what was not understood."""

    secrets: tuple[WantedSecret, ...] = ()
    refresh_s: float | None = None
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, configuration: Json) -> "CloudSecretSettings":
        """Return what the configuration of the secret manager says."""
        root = configuration if isinstance(configuration, Mapping) else {}
        listed = root.get("cloudSecrets") or []
        if not isinstance(listed, list):
            return cls(problems=("cloudSecrets must be a list",))
        problems: list[str] = []
        found = [_wanted(entry, problems) for entry in listed]
        return cls(
            secrets=tuple(secret for secret in found if secret is not None),
            refresh_s=_refresh_s(root.get("periodicRefreshIntervalMin"), problems),
            problems=tuple(problems),
        )

    def wanted(self, secret_id: str) -> WantedSecret | None:
        """Return the secret of that name or ARN, if it is one to keep."""
        return next((secret for secret in self.secrets if secret.is_called(secret_id)), None)


def _wanted(entry: Json, problems: list[str]) -> WantedSecret | None:
    arn = entry.get("arn") if isinstance(entry, Mapping) else None
    if not isinstance(arn, str) or not _ARN.fullmatch(arn):
        problems.append(f"cloudSecrets: {arn!r} is not the ARN of a secret")
        return None
    labels = entry.get("labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        problems.append(f"cloudSecrets: the labels of {arn} must be a list of texts")
        labels = []
    return WantedSecret(arn=arn, labels=tuple(dict.fromkeys((*labels, CURRENT))))


def _refresh_s(minutes: Json, problems: list[str]) -> float | None:
    if minutes is None or minutes == 0:
        return None
    if isinstance(minutes, int | float) and not isinstance(minutes, bool) and 0 < minutes < float("inf"):
        return 60.0 * max(float(minutes), _LEAST_REFRESH_MIN)
    problems.append(f"periodicRefreshIntervalMin {minutes!r} is not a number of minutes")
    return None
