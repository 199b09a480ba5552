"""Stably's public API; nothing here knows Airflow."""
