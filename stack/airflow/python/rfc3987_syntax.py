"""Not for Airflow: without a container its processes share our environment, where JupyterLab brings this package.

jsonschema imports it where it can, to check that a text is a URI, and compiles a grammar: a second and 16 MB in each of
Airflow's processes, none of which checks one. It stands first on their path, and jsonschema goes on without.
"""

raise ImportError(__doc__)
