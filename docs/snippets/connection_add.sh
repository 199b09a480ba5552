airflow connections add stably_default \
    --conn-type stably \
    --conn-password YOUR-API-KEY \
    --conn-login YOUR-PROJECT-ID
