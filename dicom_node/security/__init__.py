"""Security: access control, TLS and the audit trail."""
