"""The life of a Stably run, as rules: no Airflow, no I/O of their own."""
