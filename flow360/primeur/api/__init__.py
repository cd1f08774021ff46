"""market-api, Primeur's REST service: the server, its pages, its faults, its figures."""
