"""The tokens by which components show who they are, over IPC and to the credential endpoint."""

import secrets


class Tokens:
    """A token for each component, drawn when it is first asked for; new ones after every start of the nucleus.

    Tokens are letters, digits, ``-`` and ``_``: awsiotsdk pastes them into JSON as they are.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The token of a component (or of a tool, by a name of its own)."""
        if name not in self._tokens:
            token = secrets.token_urlsafe(24)
            self._tokens[name] = token
            self._names[token] = name
        return self._tokens[name]

    def owner(self, token: str) -> str | None:
        """Whose token it is; None: nobody's."""
        return self._names.get(token)

    def forget(self, name: str) -> None:
        """The component has left the device: its token means nothing any more."""
        token = self._tokens.pop(name, None)
        if token is not None:
            del self._names[token]
