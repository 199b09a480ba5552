export AIRFLOW_CONN_STABLY_DEFAULT='{"conn_type": "stably", "password": "YOUR-API-KEY", "login": "YOUR-PROJECT-ID"}'
