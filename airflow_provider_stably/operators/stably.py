"""Operators for Stably: the table of contents."""

from airflow_provider_stably.operators.cancel_run import StablyCancelRunOperator
from airflow_provider_stably.operators.run_tests import StablyRunTestsOperator

__all__ = ["StablyCancelRunOperator", "StablyRunTestsOperator"]
