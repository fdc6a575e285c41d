"""Greengrass's errors, with their members."""

from monodon.cloud.protocol import ServiceError


def not_found(kind: str, resource: str) -> ServiceError:
    """ResourceNotFoundException: there is no such component version, deployment, …"""
    return ServiceError(
        "ResourceNotFoundException",
        f"{kind.replace('_', ' ').lower()} {resource} does not exist".capitalize(),
        resourceId=resource,
        resourceType=kind,
    )


def conflict(message: str, kind: str, resource: str) -> ServiceError:
    """ConflictException."""
    return ServiceError("ConflictException", message, resourceId=resource, resourceType=kind)


def invalid(field: str, message: str) -> ServiceError:
    """ValidationException of one field."""
    return invalid_fields([(field, message)])


def invalid_fields(problems: list[tuple[str, str]]) -> ServiceError:
    """ValidationException of several fields; the message names the first ones."""
    shown = "; ".join(f"{field}: {text}" if field else text for field, text in problems[:5])
    more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
    fields = [{"name": field or "request", "message": text} for field, text in problems]
    return ServiceError("ValidationException", shown + more, reason="FIELD_VALIDATION_FAILED", fields=fields)
