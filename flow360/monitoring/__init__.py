"""Layer 6: the exporter of Kafka's groups, a client of Prometheus, and the drawing of Grafana's dashboards."""
