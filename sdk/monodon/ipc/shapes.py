"""The structures of the service model: requests, answers, stream events and what they hold.

Attributes are the field names in snake case; None is an absent field. Enums are texts here, since each operation
answers an unknown one in its own way; their values are the ``StrEnum`` classes.

Source: awsiotsdk 1.31.0, ``greengrasscoreipc/model.py``; ipc.md section 4.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import dataclass_transform

from monodon.ipc.serialisation import JsonObject, Shape, ShapeT, UnionShape


@dataclass_transform(frozen_default=True, kw_only_default=True)
def shape(cls: type[ShapeT]) -> type[ShapeT]:
    """Mark a structure of the service model; :class:`Shape` does the work."""
    return cls


class ReceiveMode(StrEnum):
    """Whether a subscription also gets what its own component publishes."""

    ALL = "RECEIVE_ALL_MESSAGES"
    FROM_OTHERS = "RECEIVE_MESSAGES_FROM_OTHERS"


class RequestStatus(StrEnum):
    """Whether a restart or stop was taken."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class ConnectionStatus(StrEnum):
    """Whether the nucleus is connected to AWS IoT Core."""

    CONNECTED = "CONNECTED"
    DISCONNECTED = "DISCONNECTED"


class ConfigurationValidity(StrEnum):
    """A component's word on a new configuration."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"


# Local publish and subscribe


@shape
class MessageContext(Shape):
    """Where a message was published."""

    topic: str | None = None


@shape
class JsonMessage(Shape):
    """A JSON object; the context is set in events only."""

    message: JsonObject | None = None
    context: MessageContext | None = None


@shape
class BinaryMessage(Shape):
    """Any bytes; the context is set in events only."""

    message: bytes | None = None
    context: MessageContext | None = None


@shape
class PublishMessage(UnionShape):
    """What is published."""

    json_message: JsonMessage | None = None
    binary_message: BinaryMessage | None = None


@shape
class SubscriptionResponseMessage(UnionShape):
    """A message on a local topic."""

    json_message: JsonMessage | None = None
    binary_message: BinaryMessage | None = None


@shape
class PublishToTopicRequest(Shape):
    """Asks for ``PublishToTopic``."""

    topic: str | None = None
    publish_message: PublishMessage | None = None


@shape
class PublishToTopicResponse(Shape):
    """Answers ``PublishToTopic``."""


@shape
class SubscribeToTopicRequest(Shape):
    """Asks for ``SubscribeToTopic``."""

    topic: str | None = None
    receive_mode: str | None = None


@shape
class SubscribeToTopicResponse(Shape):
    """Answers ``SubscribeToTopic``."""

    topic_name: str | None = None


# AWS IoT Core


@shape
class UserProperty(Shape):
    """One user property of MQTT 5."""

    key: str | None = None
    value: str | None = None


@shape
class MQTTMessage(Shape):
    """A message of AWS IoT Core."""

    topic_name: str | None = None
    payload: bytes | None = None
    retain: bool | None = None
    user_properties: tuple[UserProperty, ...] | None = None
    message_expiry_interval_seconds: int | None = None
    correlation_data: bytes | None = None
    response_topic: str | None = None
    payload_format: str | None = None
    content_type: str | None = None


@shape
class PublishToIoTCoreRequest(Shape):
    """Asks for ``PublishToIoTCore``."""

    topic_name: str | None = None
    qos: str | None = None
    payload: bytes | None = None
    retain: bool | None = None
    user_properties: tuple[UserProperty, ...] | None = None
    message_expiry_interval_seconds: int | None = None
    correlation_data: bytes | None = None
    response_topic: str | None = None
    payload_format: str | None = None
    content_type: str | None = None


@shape
class PublishToIoTCoreResponse(Shape):
    """Answers ``PublishToIoTCore``."""


@shape
class SubscribeToIoTCoreRequest(Shape):
    """Asks for ``SubscribeToIoTCore``."""

    topic_name: str | None = None
    qos: str | None = None


@shape
class SubscribeToIoTCoreResponse(Shape):
    """Answers ``SubscribeToIoTCore``."""


@shape
class IoTCoreMessage(UnionShape):
    """A message on a topic of AWS IoT Core."""

    message: MQTTMessage | None = None


@shape
class SubscribeToIoTCoreConnectionStatusRequest(Shape):
    """Asks for ``SubscribeToIoTCoreConnectionStatus``."""


@shape
class SubscribeToIoTCoreConnectionStatusResponse(Shape):
    """Answers ``SubscribeToIoTCoreConnectionStatus``."""


@shape
class ConnectionStatusEvent(Shape):
    """The connection to AWS IoT Core came or went."""

    status: str | None = None


@shape
class IoTCoreConnectionStatusEvent(UnionShape):
    """The event of ``SubscribeToIoTCoreConnectionStatus``."""

    connection_status_event: ConnectionStatusEvent | None = None


# Configuration


@shape
class GetConfigurationRequest(Shape):
    """Asks for ``GetConfiguration``."""

    component_name: str | None = None
    key_path: tuple[str, ...] | None = None


@shape
class GetConfigurationResponse(Shape):
    """Answers ``GetConfiguration``."""

    component_name: str | None = None
    value: JsonObject | None = None


@shape
class UpdateConfigurationRequest(Shape):
    """Asks for ``UpdateConfiguration``."""

    key_path: tuple[str, ...] | None = None
    timestamp: float | None = None
    value_to_merge: JsonObject | None = None


@shape
class UpdateConfigurationResponse(Shape):
    """Answers ``UpdateConfiguration``."""


@shape
class SubscribeToConfigurationUpdateRequest(Shape):
    """Asks for ``SubscribeToConfigurationUpdate``."""

    component_name: str | None = None
    key_path: tuple[str, ...] | None = None


@shape
class SubscribeToConfigurationUpdateResponse(Shape):
    """Answers ``SubscribeToConfigurationUpdate``."""


@shape
class ConfigurationUpdateEvent(Shape):
    """The whole path of what changed, below ``configuration``."""

    component_name: str | None = None
    key_path: tuple[str, ...] | None = None


@shape
class ConfigurationUpdateEvents(UnionShape):
    """The event of ``SubscribeToConfigurationUpdate``."""

    configuration_update_event: ConfigurationUpdateEvent | None = None


@shape
class SubscribeToValidateConfigurationUpdatesRequest(Shape):
    """Asks for ``SubscribeToValidateConfigurationUpdates``."""


@shape
class SubscribeToValidateConfigurationUpdatesResponse(Shape):
    """Answers ``SubscribeToValidateConfigurationUpdates``."""


@shape
class ValidateConfigurationUpdateEvent(Shape):
    """A configuration that a deployment is about to give the component."""

    configuration: JsonObject | None = None
    deployment_id: str | None = None


@shape
class ValidateConfigurationUpdateEvents(UnionShape):
    """The event of ``SubscribeToValidateConfigurationUpdates``."""

    validate_configuration_update_event: ValidateConfigurationUpdateEvent | None = None


@shape
class ConfigurationValidityReport(Shape):
    """A component's answer to it."""

    status: str | None = None
    deployment_id: str | None = None
    message: str | None = None


@shape
class SendConfigurationValidityReportRequest(Shape):
    """Asks for ``SendConfigurationValidityReport``."""

    configuration_validity_report: ConfigurationValidityReport | None = None


@shape
class SendConfigurationValidityReportResponse(Shape):
    """Answers ``SendConfigurationValidityReport``."""


# Lifecycle


@shape
class UpdateStateRequest(Shape):
    """Asks for ``UpdateState``."""

    state: str | None = None


@shape
class UpdateStateResponse(Shape):
    """Answers ``UpdateState``."""


@shape
class SubscribeToComponentUpdatesRequest(Shape):
    """Asks for ``SubscribeToComponentUpdates``."""


@shape
class SubscribeToComponentUpdatesResponse(Shape):
    """Answers ``SubscribeToComponentUpdates``."""


@shape
class PreComponentUpdateEvent(Shape):
    """A deployment is about to change the device."""

    deployment_id: str | None = None
    is_ggc_restarting: bool | None = None


@shape
class PostComponentUpdateEvent(Shape):
    """It has."""

    deployment_id: str | None = None


@shape
class ComponentUpdatePolicyEvents(UnionShape):
    """The event of ``SubscribeToComponentUpdates``."""

    pre_update_event: PreComponentUpdateEvent | None = None
    post_update_event: PostComponentUpdateEvent | None = None


@shape
class DeferComponentUpdateRequest(Shape):
    """Asks for ``DeferComponentUpdate``."""

    deployment_id: str | None = None
    message: str | None = None
    recheck_after_ms: int | None = None


@shape
class DeferComponentUpdateResponse(Shape):
    """Answers ``DeferComponentUpdate``."""


@shape
class PauseComponentRequest(Shape):
    """Asks for ``PauseComponent``."""

    component_name: str | None = None


@shape
class PauseComponentResponse(Shape):
    """Answers ``PauseComponent``."""


@shape
class ResumeComponentRequest(Shape):
    """Asks for ``ResumeComponent``."""

    component_name: str | None = None


@shape
class ResumeComponentResponse(Shape):
    """Answers ``ResumeComponent``."""


# Secrets


@shape
class SecretValue(UnionShape):
    """The secret itself."""

    secret_string: str | None = None
    secret_binary: bytes | None = None


@shape
class GetSecretValueRequest(Shape):
    """Asks for ``GetSecretValue``."""

    secret_id: str | None = None
    version_id: str | None = None
    version_stage: str | None = None
    refresh: bool | None = None


@shape
class GetSecretValueResponse(Shape):
    """Answers ``GetSecretValue``."""

    secret_id: str | None = None
    version_id: str | None = None
    version_stage: tuple[str, ...] | None = None
    secret_value: SecretValue | None = None


# Shadows


@shape
class GetThingShadowRequest(Shape):
    """Asks for ``GetThingShadow``."""

    thing_name: str | None = None
    shadow_name: str | None = None


@shape
class GetThingShadowResponse(Shape):
    """Answers ``GetThingShadow``."""

    payload: bytes | None = None


@shape
class UpdateThingShadowRequest(Shape):
    """Asks for ``UpdateThingShadow``."""

    thing_name: str | None = None
    shadow_name: str | None = None
    payload: bytes | None = None


@shape
class UpdateThingShadowResponse(Shape):
    """Answers ``UpdateThingShadow``."""

    payload: bytes | None = None


@shape
class DeleteThingShadowRequest(Shape):
    """Asks for ``DeleteThingShadow``."""

    thing_name: str | None = None
    shadow_name: str | None = None


@shape
class DeleteThingShadowResponse(Shape):
    """Answers ``DeleteThingShadow``."""

    payload: bytes | None = None


@shape
class ListNamedShadowsForThingRequest(Shape):
    """Asks for ``ListNamedShadowsForThing``."""

    thing_name: str | None = None
    next_token: str | None = None
    page_size: int | None = None


@shape
class ListNamedShadowsForThingResponse(Shape):
    """Answers ``ListNamedShadowsForThing``."""

    results: tuple[str, ...] | None = None
    timestamp: float | None = None
    next_token: str | None = None


# Components and local deployments


@shape
class ComponentDetails(Shape):
    """One component of the device."""

    component_name: str | None = None
    version: str | None = None
    state: str | None = None
    configuration: JsonObject | None = None


@shape
class ListComponentsRequest(Shape):
    """Asks for ``ListComponents``."""


@shape
class ListComponentsResponse(Shape):
    """Answers ``ListComponents``."""

    components: tuple[ComponentDetails, ...] | None = None


@shape
class GetComponentDetailsRequest(Shape):
    """Asks for ``GetComponentDetails``."""

    component_name: str | None = None


@shape
class GetComponentDetailsResponse(Shape):
    """Answers ``GetComponentDetails``."""

    component_details: ComponentDetails | None = None


@shape
class RestartComponentRequest(Shape):
    """Asks for ``RestartComponent``."""

    component_name: str | None = None


@shape
class RestartComponentResponse(Shape):
    """Answers ``RestartComponent``."""

    restart_status: str | None = None
    message: str | None = None


@shape
class StopComponentRequest(Shape):
    """Asks for ``StopComponent``."""

    component_name: str | None = None


@shape
class StopComponentResponse(Shape):
    """Answers ``StopComponent``."""

    stop_status: str | None = None
    message: str | None = None


@shape
class SystemResourceLimits(Shape):
    """Memory in kilobytes, CPUs as a fraction of one."""

    memory: int | None = None
    cpus: float | None = None


@shape
class RunWithInfo(Shape):
    """Whom a component runs as, and within which limits."""

    posix_user: str | None = None
    windows_user: str | None = None
    system_resource_limits: SystemResourceLimits | None = None


@shape
class CreateLocalDeploymentRequest(Shape):
    """Asks for ``CreateLocalDeployment``."""

    group_name: str | None = None
    root_component_versions_to_add: Mapping[str, str] | None = None
    root_components_to_remove: tuple[str, ...] | None = None
    component_to_configuration: Mapping[str, JsonObject] | None = None
    component_to_run_with_info: Mapping[str, RunWithInfo] | None = None
    recipe_directory_path: str | None = None
    artifacts_directory_path: str | None = None
    failure_handling_policy: str | None = None


@shape
class CreateLocalDeploymentResponse(Shape):
    """Answers ``CreateLocalDeployment``."""

    deployment_id: str | None = None


@shape
class CancelLocalDeploymentRequest(Shape):
    """Asks for ``CancelLocalDeployment``."""

    deployment_id: str | None = None


@shape
class CancelLocalDeploymentResponse(Shape):
    """Answers ``CancelLocalDeployment``."""

    message: str | None = None


@shape
class DeploymentStatusDetails(Shape):
    """How a deployment ended."""

    detailed_deployment_status: str | None = None
    deployment_error_stack: tuple[str, ...] | None = None
    deployment_error_types: tuple[str, ...] | None = None
    deployment_failure_cause: str | None = None


@shape
class LocalDeployment(Shape):
    """One local deployment; ``created_on`` is a text, ``dd-MM-yyyy HH:mm:ss UTC``."""

    deployment_id: str | None = None
    status: str | None = None
    created_on: str | None = None
    deployment_status_details: DeploymentStatusDetails | None = None


@shape
class GetLocalDeploymentStatusRequest(Shape):
    """Asks for ``GetLocalDeploymentStatus``."""

    deployment_id: str | None = None


@shape
class GetLocalDeploymentStatusResponse(Shape):
    """Answers ``GetLocalDeploymentStatus``."""

    deployment: LocalDeployment | None = None


@shape
class ListLocalDeploymentsRequest(Shape):
    """Asks for ``ListLocalDeployments``."""


@shape
class ListLocalDeploymentsResponse(Shape):
    """Answers ``ListLocalDeployments``."""

    local_deployments: tuple[LocalDeployment, ...] | None = None


@shape
class CreateDebugPasswordRequest(Shape):
    """Asks for ``CreateDebugPassword``."""


@shape
class CreateDebugPasswordResponse(Shape):
    """Answers ``CreateDebugPassword``."""

    password: str | None = None
    username: str | None = None
    password_expiration: float | None = None
    certificate_sha256_hash: str | None = None
    certificate_sha1_hash: str | None = None


# Special operations


@shape
class ValidateAuthorizationTokenRequest(Shape):
    """Asks for ``ValidateAuthorizationToken``."""

    token: str | None = None


@shape
class ValidateAuthorizationTokenResponse(Shape):
    """Answers ``ValidateAuthorizationToken``."""

    is_valid: bool | None = None


@shape
class Metric(Shape):
    """One measurement."""

    name: str | None = None
    unit: str | None = None
    value: float | None = None


@shape
class PutComponentMetricRequest(Shape):
    """Asks for ``PutComponentMetric``."""

    metrics: tuple[Metric, ...] | None = None


@shape
class PutComponentMetricResponse(Shape):
    """Answers ``PutComponentMetric``."""


@shape
class MQTTCredential(Shape):
    """What a client device presents over MQTT."""

    client_id: str | None = None
    certificate_pem: str | None = None
    username: str | None = None
    password: str | None = None


@shape
class CredentialDocument(UnionShape):
    """A credential to be turned into a session."""

    mqtt_credential: MQTTCredential | None = None


@shape
class GetClientDeviceAuthTokenRequest(Shape):
    """Asks for ``GetClientDeviceAuthToken``."""

    credential: CredentialDocument | None = None


@shape
class GetClientDeviceAuthTokenResponse(Shape):
    """Answers ``GetClientDeviceAuthToken``."""

    client_device_auth_token: str | None = None


@shape
class ClientDeviceCredential(UnionShape):
    """A credential to be verified: a PEM certificate."""

    client_device_certificate: str | None = None


@shape
class VerifyClientDeviceIdentityRequest(Shape):
    """Asks for ``VerifyClientDeviceIdentity``."""

    credential: ClientDeviceCredential | None = None


@shape
class VerifyClientDeviceIdentityResponse(Shape):
    """Answers ``VerifyClientDeviceIdentity``."""

    is_valid_client_device: bool | None = None


@shape
class AuthorizeClientDeviceActionRequest(Shape):
    """Asks for ``AuthorizeClientDeviceAction``."""

    client_device_auth_token: str | None = None
    operation: str | None = None
    resource: str | None = None


@shape
class AuthorizeClientDeviceActionResponse(Shape):
    """Answers ``AuthorizeClientDeviceAction``."""

    is_authorized: bool | None = None


@shape
class CertificateOptions(Shape):
    """Which certificate is asked for."""

    certificate_type: str | None = None


@shape
class SubscribeToCertificateUpdatesRequest(Shape):
    """Asks for ``SubscribeToCertificateUpdates``."""

    certificate_options: CertificateOptions | None = None


@shape
class SubscribeToCertificateUpdatesResponse(Shape):
    """Answers ``SubscribeToCertificateUpdates``."""


@shape
class CertificateUpdate(Shape):
    """A server's new key and certificates, as PEM."""

    private_key: str | None = None
    public_key: str | None = None
    certificate: str | None = None
    ca_certificates: tuple[str, ...] | None = None


@shape
class CertificateUpdateEvent(UnionShape):
    """The event of ``SubscribeToCertificateUpdates``."""

    certificate_update: CertificateUpdate | None = None
