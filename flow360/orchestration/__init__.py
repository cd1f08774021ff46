"""Layer 3: DAG files and runs over Airflow's API."""
