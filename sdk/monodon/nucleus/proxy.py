"""The network proxy of a device: which connections go through it, and how.

Source: Greengrass nucleus, ``util/ProxyUtils.java``.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from monodon.errors import ConfigurationError

DEFAULT_PORT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy that is asked to CONNECT; ``exempt`` are hosts, or ends of hosts after a dot, not reached by it."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    exempt: tuple[str, ...] = ()

    @classmethod
    def read(cls, url: str, *, username: str | None = None, password: str | None = None, exempt: str = "") -> "Proxy":
        """Read ``networkProxy``; a user in the URL counts before one beside it.

        Raises:
            ConfigurationError: it is no URL of an HTTP proxy.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = None
            parts = parts._replace(netloc="")
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigurationError(
                f"networkProxy.proxy.url: {_bare(url)} is no proxy that can be used",
                hint="it is http://host:port; proxies over https:// or socks5:// are not supported",
            )
        return cls(
            host=parts.hostname,
            port=port or DEFAULT_PORT,
            username=unquote(parts.username) if parts.username else username,
            password=unquote(parts.password) if parts.username and parts.password else password,
            exempt=tuple(text.strip().lower().lstrip(".") for text in exempt.split(",") if text.strip()),
        )

    def is_for(self, host: str) -> bool:
        """Whether a host is reached through it."""
        name = host.lower()
        return not any(name == one or name.endswith(f".{one}") for one in self.exempt)

    @property
    def headers(self) -> dict[str, str]:
        """What it is told with each CONNECT."""
        if self.username is None:
            return {}
        token = base64.b64encode(f"{self.username}:{self.password or ''}".encode()).decode()
        return {"Proxy-Authorization": f"Basic {token}"}

    def environment(self) -> Mapping[str, str]:
        """What components find, in both cases; ``localhost`` is exempt for them, as under AWS's nucleus."""
        user = (
            "" if self.username is None else f"{quote(self.username, safe='')}:{quote(self.password or '', safe='')}@"
        )
        url = f"http://{user}{self.host}:{self.port}"
        variables = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), url)
        variables["NO_PROXY"] = ",".join((*self.exempt, "localhost"))
        return variables | {name.lower(): value for name, value in variables.items()}


def _bare(url: str) -> str:
    """A URL without its password."""
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"
