"""The tables of the record. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UID = String(64)
AE = String(16)
BYTES = Integer().with_variant(BigInteger, "postgresql")
"""SQLite's integers have 64 bits, PostgreSQL's 32."""

associations = Table(
    "associations",
    metadata,
    Column("association_id", String(36), primary_key=True),
    Column("calling_ae_title", AE, nullable=False),
    Column("called_ae_title", AE, nullable=False),
    Column("peer_address", String(64), nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float),
)

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("priority", String(8), nullable=False),
    Column("first_instance_at", Float, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("conflicting", Boolean, nullable=False, server_default="0"),
    Column("patient_key", String(64)),
    # When retention removed the files of the study; it is in use again if instances have come since.
    Column("removed_at", Float),
    Index(None, "state"),
    Index(None, "first_instance_at"),
    Index(None, "patient_key"),
)

# Written when a study is complete: which series was selected, and why each one was or was not.
series = Table(
    "series",
    metadata,
    Column("study_instance_uid", UID, ForeignKey(studies.c.study_instance_uid), primary_key=True),
    Column("series_instance_uid", UID, primary_key=True),
    Column("selected", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
)

instances = Table(
    "instances",
    metadata,
    Column("instance_id", Integer, primary_key=True),
    Column("study_instance_uid", UID, ForeignKey(studies.c.study_instance_uid), nullable=False),
    Column("series_instance_uid", UID, nullable=False),
    Column("sop_instance_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BYTES, nullable=False),
    # Relative to the storage folder, as in all tables: see record/paths.py.
    Column("path", Text, nullable=False),
    # The association that brought the instance, or that brought it again before its study was complete.
    Column("association_id", String(36), ForeignKey(associations.c.association_id), nullable=False),
    # Later where the instance arrived again with the same bytes: then it is the time of an activity of the study.
    Column("stored_at", Float, nullable=False),
    Column("conflicts", Boolean, nullable=False, server_default="0"),
    UniqueConstraint("study_instance_uid", "sop_instance_uid", "sha256"),
    Index(None, "association_id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(36), primary_key=True),
    Column("study_instance_uid", UID, ForeignKey(studies.c.study_instance_uid), nullable=False),
    Column("series_instance_uid", UID),
    Column("input_sha256", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("priority", String(8), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("refusal_code", String(64)),
    Column("refusal_message", Text),
    Column("given_up", Boolean, nullable=False, server_default="0"),
    Column("created_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    # When the doorbell was last rung for the job: a Celery message that says the job is due.
    Column("rung_at", Float),
    Column("lease_token", String(36)),
    Column("lease_until", Float),
    # By the settings of the worker that claimed the job; those of the process that checks the lease may differ.
    Column("lease_seconds", Float),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("stage", String(64), nullable=False, server_default=""),
    Column("code", String(64), nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("infected_percent", Float),
    UniqueConstraint("study_instance_uid", "input_sha256"),
    Index(None, "state", "due_at"),
)

job_inputs = Table(
    "job_inputs",
    metadata,
    Column("job_id", String(36), ForeignKey(jobs.c.job_id), primary_key=True),
    Column("instance_id", Integer, ForeignKey(instances.c.instance_id), primary_key=True),
    # Each deletion of an instance looks for rows that refer to it; the primary key, beginning with the job, is no help.
    Index(None, "instance_id"),
)

results = Table(
    "results",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),
    Column("job_id", String(36), ForeignKey(jobs.c.job_id), nullable=False),
    # The number of the answer to the study, from 1. A job has two if it was given up, which the first reports, and
    # measured after all.
    Column("answer", Integer, nullable=False, server_default="1"),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("position", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Index(None, "job_id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", Integer, primary_key=True),
    Column("sop_instance_uid", UID, ForeignKey(results.c.sop_instance_uid), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", Float, nullable=False),
    Column("lease_token", String(36)),
    Column("lease_until", Float),
    Column("status", Integer),
    Column("message", Text, nullable=False, server_default=""),
    Column("sent_at", Float),
    # Storage commitment, if set for the destination: the request, when to repeat it, when the destination committed.
    Column("transaction_uid", UID),
    Column("commitment_due_at", Float),
    Column("committed_at", Float),
    UniqueConstraint("sop_instance_uid", "destination"),
    Index(None, "state", "due_at"),
    Index(None, "transaction_uid"),
)

# Notifications to the webhook, one for each event of a job.
notifications = Table(
    "notifications",
    metadata,
    Column("notification_id", String(64), primary_key=True),
    Column("job_id", String(36), ForeignKey(jobs.c.job_id), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", Float, nullable=False),
    Column("lease_token", String(36)),
    Column("lease_until", Float),
    Column("status", Integer),
    Column("message", Text, nullable=False, server_default=""),
    Column("sent_at", Float),
    Index(None, "job_id"),
    Index(None, "state", "due_at"),
)
