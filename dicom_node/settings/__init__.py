"""The settings, in one object: from ``hilum.toml``, the environment (``HILUM_*``) and secret files.

The object is made once at each entry point and passed down. An environment variable names a setting by section and
key, such as ``HILUM_NODE__PORT=11112``; a secret is a file of the same name, in lower case, in ``HILUM_SECRETS_DIR``.

``network``, ``storage``, ``analysis`` and ``peers`` define the settings, ``loading`` reads them, ``names`` reports
names that are no setting, and ``file`` prints the settings (``hilum settings``).
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
