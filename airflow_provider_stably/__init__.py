"""Apache Airflow provider for Stably. Imports nothing: Airflow reads the version at every start."""

__version__ = "0.1.0"
