"""The record: every instance, study, job and delivery as a row."""
