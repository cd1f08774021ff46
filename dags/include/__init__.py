"""Plain functions that the tasks call: no Airflow in them but `connections`, so they can be tested without it."""
