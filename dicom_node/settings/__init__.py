"""The one settings object: from ``hilum.toml``, the environment (``HILUM_*``) and secret files.

Made once at each entry point and passed down. An environment variable names a setting by section and key,
``HILUM_NODE__PORT=11112``; a secret is a file of the same name, in lower case, in ``HILUM_SECRETS_DIR``.

``network``, ``storage``, ``analysis``, ``peers`` (what there is to set), ``loading`` (where it comes from), ``names``
(what sets nothing is an error), ``file`` (``hilum settings``).
"""

from dicom_node.settings.analysis import JobSettings, ReportSettings, SelectionSettings, WorkerSettings
from dicom_node.settings.loading import Settings, load_settings
from dicom_node.settings.names import find_file
from dicom_node.settings.network import AuditSettings, NodeSettings, Sender, TLSSettings
from dicom_node.settings.peers import (
    AnyDestination,
    DeliverySettings,
    Destination,
    NotificationSettings,
    PriorSettings,
    WebDestination,
)
from dicom_node.settings.storage import StorageSettings

__all__ = [
    "AnyDestination",
    "AuditSettings",
    "DeliverySettings",
    "Destination",
    "JobSettings",
    "NodeSettings",
    "NotificationSettings",
    "PriorSettings",
    "ReportSettings",
    "SelectionSettings",
    "Sender",
    "Settings",
    "StorageSettings",
    "TLSSettings",
    "WebDestination",
    "WorkerSettings",
    "find_file",
    "load_settings",
]
