"""A mapping given on the command line: a JSON object, or the JSON or YAML file that has one."""

import json
from pathlib import Path
from typing import Any

from monodon.errors import ConfigurationError


def read_mapping(option: str, text: str) -> dict[str, Any]:
    """Return the JSON object that ``text`` is, or that the JSON or YAML file it names holds."""
    try:
        if text.lstrip().startswith("{"):
            value = json.loads(text)
        else:
            import yaml

            value = yaml.safe_load(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{option} {text}: {error.strerror}", hint="give a JSON object or a file") from error
    except ValueError as error:
        raise ConfigurationError(f"{option} {text}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{option} {text}: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{option} {text}: not an object")
    return value
