"""What a task leaves in Airflow about its run, and reads back."""
