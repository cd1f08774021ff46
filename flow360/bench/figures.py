"""The figures, in the order of the table.

Each `prepare` is a context manager that makes a service or folder ready and gives a function that runs one round.
"""

from flow360.bench import data, logs, notebooks, overheads, secrets, sql, starts, vans
from flow360.bench.measure import Figure

FIGURES = (
    Figure(
        "first-cell",
        "clone to first live cell",
        "environment + JupyterLab + kernel",
        "s",
        1.3,
        False,
        starts.first_cell,
    ),
    Figure(
        "home-open",
        "./scripts/up to home",
        "environment + JupyterLab + kernel",
        "s",
        1.3,
        False,
        starts.home_open,
    ),
    Figure("home", "home's answer at work, p95", "JupyterLab's own page", "ms", None, False, starts.home_over_lab),
    Figure("home-memory", "JupyterLab with home (PSS)", "without", "MB", None, False, starts.memory_of_home),
    Figure("stack-start", "start of the stack", "max(slowest, CPU / cores)", "s", 1.3, False, starts.stack_over_bound),
    Figure("memory", "the stack, idle (PSS)", "what Airflow alone asks for", "MB", 1.0, False, starts.memory_of_stack),
    Figure("jvm-start", "Spark's master with AppCDS", "without", "s", 0.6, False, starts.jvm_with_archive),
    Figure(
        "generator-faker", "generator, rows of CSV", "Faker row by row", "rows/s", 100, True, data.generator_over_faker
    ),
    Figure("generator-tpchgen", "generator, CSV", "tpchgen-cli", "MB/s", 1.0, True, data.generator_over_tpchgen),
    Figure("postgres-load", "Arrow into PostgreSQL", "server-side COPY", "rows/s", 0.8, True, data.load_over_copy),
    Figure("dbt-build", "dbt build, 100,000 orders", "the same SQL by psql", "s", 2.2, False, sql.dbt_over_psql),
    Figure(
        "kafka-produce", "C client, 200 B", "kafka-producer-perf-test", "rec/s", 0.5, True, data.kafka_over_perf_test
    ),
    Figure(
        "kafka-python",
        "kafka-python, 200 B",
        "kafka-producer-perf-test",
        "rec/s",
        None,
        True,
        data.kafka_python_over_perf_test,
    ),
    Figure(
        "van-alarm",
        "reading to alarm, 12 vans, p95",
        "a record through Kafka",
        "s",
        None,
        False,
        vans.alarm_of_twelve_vans,
    ),
    Figure(
        "van-alarm-busy",
        "reading to alarm, 1,000/s, p95",
        "a record through Kafka",
        "s",
        None,
        False,
        vans.alarm_of_a_thousand_vans,
    ),
    Figure(
        "spark-attach",
        "Spark, shared server",
        "a local[2] of one's own",
        "s",
        0.35,
        False,
        overheads.attach_over_private,
    ),
    Figure("log-lines", "log lines shipped", "_bulk by one client", "lines/s", 0.7, True, logs.shipped_over_bulk),
    Figure("log-delay", "a line found, 100/s, p95", "the refresh interval", "s", 2, False, logs.found_over_refresh),
    Figure("airflow-task", "Airflow, a task", "import airflow.sdk", "s", None, False, overheads.task_over_import),
    Figure(
        "vault-read",
        "a task's password, out of Vault",
        "out of its environment",
        "ms",
        None,
        False,
        secrets.vault_over_environment,
    ),
    Figure(
        "vault-lease",
        "a borrowed user answered, p95",
        "a user who stays",
        "ms",
        None,
        False,
        secrets.borrowed_over_kept,
    ),
    Figure("goto", "goto 05a, snapshot", "by the solved labs", "s", 0.1, False, overheads.goto_over_solutions),
    Figure(
        "notebooks",
        "all lessons, as CI runs them",
        "papermill one by one",
        "s",
        0.3,
        False,
        notebooks.suite_over_papermill,
    ),
)
