"""What Stably's public API is, without a word of Airflow."""
