"""What Greengrass refuses to take more of; each can be set. Source: cloud notes, section 7."""

from dataclasses import dataclass

from monodon.core.recipe.model import MAX_PUBLISHED_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one account."""

    recipe_bytes: int = MAX_PUBLISHED_BYTES
    artifacts_bytes: int = 2 * 1024**3
    tags: int = 200
    #: A job is handed out in one MQTT message of at most 128 KiB, with a little around it.
    document_bytes: int = 120_000
    page: int = 50
