# Airflow reads its connections, and its tasks borrow roles in the warehouse. It writes nothing and lists nothing.
path "secret/data/airflow/connections/*" {
  capabilities = ["read"]
}

path "database/creds/pipeline" {
  capabilities = ["read"]
}
