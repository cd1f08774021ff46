"""Answers of 06_metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from flow360 import lesson
from flow360.clients import prometheus
from flow360.monitoring.incidents import Incident
from flow360.monitoring.traffic import Traffic
from tests.answers import delivered, last_hint, near_miss, right

BUCKETS = "market_api_request_seconds_bucket"
QUEUES = {
    "market-api": "sum(market_api_requests_in_progress)",
    "postgres-dwh": 'sum(pg_stat_activity_count{state="active"})',
    "kafka": "sum(kafka_consumergroup_lag)",
}
_incidents: dict[str, Incident] = {}


def reset(exercise: str) -> None:
    """What the answer before pushed is gone, its incident over, and the API has customers of the last minute."""
    if exercise != "saturated_service":
        end_incidents()
    prom = prometheus()
    if exercise == "own_metric":
        delivered()
        prom.forget("lab06")
        lesson.wait_for(lambda: prom.query('lab06_orders_total{job="lab06"}').empty, 20, "the last push to be gone")
    if exercise in ("slow_routes", "error_panel"):
        errors = 'count(rate(market_api_requests_total{status="500"}[30s]) > 0) > 2'
        if prom.query(errors).empty:
            with Traffic(50) as traffic:
                lesson.wait_for(lambda: len(traffic.seen) >= 250, 60, "250 answers")


def orders():
    return lesson.sql("select order_id, channel, total_eur from lake.orders")


def registry_of(kind=Counter, name: str = "lab06_orders", labels=("channel",), rows=None, push: bool = True):
    rows = orders() if rows is None else rows
    registry = CollectorRegistry()
    metric = kind(name, "Orders of the week", list(labels), registry=registry)
    for values, group in rows.groupby(list(labels)):
        metric.labels(*values).inc(len(group))
    largest = Gauge("lab06_largest_order_euros", "The largest order", registry=registry)
    largest.set(rows["total_eur"].max())
    if push:
        prometheus().push(registry, job="lab06")
    return registry


@right("own_metric", solved=True)
def counted_and_pushed():
    return registry_of()


@right("own_metric")
def counted_one_by_one():
    rows, registry = orders(), CollectorRegistry()
    placed = Counter("lab06_orders_total", "Orders", ["channel"], registry=registry)
    largest = Gauge("lab06_largest_order_euros", "Largest", registry=registry)
    top = 0
    for row in rows.itertuples():
        placed.labels(channel=row.channel).inc()
        top = max(top, row.total_eur)
    largest.set(top)
    prometheus().push(registry, job="lab06")
    return registry


@right("own_metric")
def collected_when_it_is_asked():
    class Orders:
        def collect(self):
            rows = orders()
            placed = CounterMetricFamily("lab06_orders", "Orders of the week", labels=["channel"])
            for channel, group in rows.groupby("channel"):
                placed.add_metric([channel], len(group))
            yield placed
            yield GaugeMetricFamily("lab06_largest_order_euros", "The largest order", value=rows["total_eur"].max())

    registry = CollectorRegistry()
    registry.register(Orders())
    prometheus().push(registry, job="lab06")
    return registry


@near_miss("own_metric", says="lab06_orders_total: of channel")
def each_order_and_a_little():
    registry = registry_of(push=False)
    counted = next(metric for metric in registry.collect() if metric.name == "lab06_orders")
    more = Counter("lab06_orders", "Orders", ["channel"], registry=(registry := CollectorRegistry()))
    for sample in counted.samples:
        if sample.name.endswith("_total"):
            more.labels(**sample.labels).inc(sample.value + 0.25)
    Gauge("lab06_largest_order_euros", "Largest", registry=registry).set(orders()["total_eur"].max())
    prometheus().push(registry, job="lab06")
    return registry


@near_miss("own_metric", says="expected a CollectorRegistry")
def the_counts_alone():
    return dict(orders()["channel"].value_counts())


@near_miss("own_metric", says="nothing was pushed")
def built_and_kept_at_home():
    return registry_of(push=False)


@near_miss("own_metric", says="expected 'counter'")
def a_gauge_that_looks_like_a_counter():
    return registry_of(Gauge, "lab06_orders_total")


@near_miss("own_metric", says="multiplies the series")
def a_label_for_each_order():
    return registry_of(labels=("channel", "order_id"), rows=orders().head(200))


@near_miss("own_metric", says="pushed after the counting")
def pushed_before_it_was_counted():
    registry = CollectorRegistry()
    placed = Counter("lab06_orders", "Orders", ["channel"], registry=registry)
    largest = Gauge("lab06_largest_order_euros", "Largest", registry=registry)
    prometheus().push(registry, job="lab06")
    rows = orders()
    for row in rows.itertuples():
        placed.labels(channel=row.channel).inc()
    largest.set(rows["total_eur"].max())
    return registry


@near_miss("own_metric", says="lab06_orders_total: of channel")
def the_first_page_only():
    return registry_of(rows=orders().head(100))


@right("slow_routes", solved=True)
def rate_sum_quantile():
    return f"histogram_quantile(0.95, sum by (le, route) (rate({BUCKETS}[1m])))"


@right("slow_routes")
def with_increase():
    return f"histogram_quantile(0.95, sum(increase({BUCKETS}[1m])) by (route, le))"


@right("slow_routes")
def by_the_last_hint():
    return last_hint("06", "slow_routes")[0]


@right("slow_routes")
def what_is_not_asked_left_out():
    return f"histogram_quantile(0.95, sum without (instance, job) (rate({BUCKETS}[60s]))) # over a minute"


@near_miss("slow_routes", says="p95: ")
def over_the_last_two_minutes():
    """Right as long as nobody came before the last one."""
    return f"histogram_quantile(0.95, sum by (le, route) (rate({BUCKETS}[2m])))"


@near_miss("slow_routes", says="p95: ")
def by_the_last_two_scrapes():
    return f"histogram_quantile(0.95, sum by (le, route) (irate({BUCKETS}[1m])))"


@near_miss("slow_routes", says="since the service started")
def without_rate():
    return f"histogram_quantile(0.95, sum by (le, route) ({BUCKETS}))"


@near_miss("slow_routes", says="gives nothing")
def without_le():
    return f"histogram_quantile(0.95, sum by (route) (rate({BUCKETS}[1m])))"


@near_miss("slow_routes", says="no label route")
def of_all_routes():
    return f"histogram_quantile(0.95, sum by (le) (rate({BUCKETS}[1m])))"


@near_miss("slow_routes", says="the average")
def the_average():
    seconds = "market_api_request_seconds"
    return f"sum by (route) (rate({seconds}_sum[1m])) / sum by (route) (rate({seconds}_count[1m]))"


@near_miss("slow_routes", says="parse error")
def a_bracket_too_few():
    return f"histogram_quantile(0.95, sum by (le, route) (rate({BUCKETS}[1m]))"


def rule(expr: str, hold: str = "4s", name: str = "LabBacklog", severity: str = "page") -> str:
    return f"""
groups:
  - name: lab06
    rules:
      - alert: {name}
        expr: {expr}
        for: {hold}
        labels: {{severity: {severity}}}
"""


LAG = 'kafka_consumergroup_lag{consumergroup="lab06-billing"}'


@right("backlog_alert", solved=True)
def the_sum_of_the_group():
    expr = last_hint("06", "backlog_alert")[0].removeprefix("expr: ").partition(", for: 4s")[0]
    return rule(expr)


@right("backlog_alert")
def every_group_no_wait():
    return rule("sum(" + LAG + ") > 500", hold="0s")


@right("backlog_alert")
def recorded_from_the_offsets():
    recorded = """
      - record: billing:behind
        expr: |
          sum(
            kafka_topic_partition_current_offset
            - on (topic, partition) group_right () kafka_consumergroup_current_offset{consumergroup="lab06-billing"}
          )"""
    return rule("billing:behind >= 501").replace("rules:", f"rules:{recorded}")


@near_miss("backlog_alert", says="not even pending")
def each_partition_for_itself():
    return rule(f"{LAG} > 500")


@near_miss("backlog_alert", says="501 records behind in")
def one_more_than_that():
    return rule(f"sum({LAG}) > 501")


@near_miss("backlog_alert", says="the worst that was ever seen")
def only_what_can_be_believed():
    return rule('sum(kafka_consumergroup_lag{consumergroup="lab06-billing"}) > 500 < 100000')


@near_miss("backlog_alert", says="500 records behind in")
def from_500_on():
    return rule(f"sum({LAG}) >= 500")


@near_miss("backlog_alert", says="not even pending")
def of_the_three_that_were_there():
    return rule("sum(" + LAG.replace("}", ', partition=~"0|1|2"}') + ") > 500")


@near_miss("backlog_alert", says="it is pending")
def too_patient():
    return rule(f"sum({LAG}) > 500", hold="28s")


@near_miss("backlog_alert", says="it is pending")
def another_alert_for_each_number():
    return rule(f"sum({LAG}) > 500").replace("severity: page", 'severity: page, behind: "{{ $value }}"')


@near_miss("backlog_alert", says="not even pending")
def looked_at_once_a_minute():
    return rule(f"sum({LAG}) > 500").replace("name: lab06", "name: lab06\n    interval: 1m")


@near_miss("backlog_alert", says="500 or fewer behind")
def the_worst_of_the_last_minute():
    return rule(f"max_over_time(sum({LAG})[1m:2s]) > 500")


@near_miss("backlog_alert", says="500 records behind in")
def too_nervous():
    return rule(f"sum({LAG}) > 100")


@near_miss("backlog_alert", says="another alert's business")
def of_every_group():
    return rule("sum(kafka_consumergroup_lag) > 500")


@near_miss("backlog_alert", says="another alert's business")
def of_groups_with_a_name_alike():
    return rule('sum(kafka_consumergroup_lag{consumergroup=~"lab06-billing.*"}) > 500')


@near_miss("backlog_alert", says="parse error")
def a_bracket_that_is_not_closed():
    return rule(f"sum({LAG} > 500")


@near_miss("backlog_alert", says="not a valid duration")
def for_a_while():
    return rule(f"sum({LAG}) > 500", hold="a while")


@near_miss("backlog_alert", says="severity")
def nobody_is_called():
    return rule(f"sum({LAG}) > 500", severity="ticket")


@near_miss("backlog_alert", says="expected one alert LabBacklog")
def another_name():
    return rule(f"sum({LAG}) > 500", name="Backlog")


ERRORS = 'sum by (route) (rate(market_api_requests_total{status=~"5.."}[1m]))'
ANSWERS = "sum by (route) (rate(market_api_requests_total[1m]))"


def panel(expr: str, unit: str = "percentunit", legend: str = "{{route}}", kind: str = "bargauge"):
    return {
        "title": "Errors by route",
        "type": kind,
        "fieldConfig": {"defaults": {"unit": unit}},
        "targets": [{"expr": expr, "legendFormat": legend}],
    }


@right("error_panel", solved=True)
def share_by_route():
    return panel(last_hint("06", "error_panel")[0])


@right("error_panel")
def share_as_a_timeseries():
    return panel(f"{ERRORS} / on (route) {ANSWERS}", legend="errors of {{ route }}", kind="timeseries")


@right("error_panel")
def what_was_not_right():
    good = ERRORS.replace("=~", "!~")
    return panel(f"1 - {good} / {ANSWERS}", kind="stat")


@near_miss("error_panel", says="panel: ")
def the_one_error_that_there_is():
    return panel(f"{ERRORS} / {ANSWERS}".replace('=~"5.."', '="500"'))


@near_miss("error_panel", says="panel: ")
def whatever_is_not_well():
    return panel(f"{ERRORS} / {ANSWERS}".replace("5..", "[45].."))


@near_miss("error_panel", says="panel: ")
def shares_of_five_minutes():
    return panel(f"{ERRORS} / {ANSWERS}".replace("[1m]", "[5m]"))


@near_miss("error_panel", says="unit")
def without_a_unit():
    return panel(f"{ERRORS} / {ANSWERS}", unit="none")


@near_miss("error_panel", says="multiplies by 100 again")
def percent_twice():
    return panel(f"100 * {ERRORS} / {ANSWERS}")


@near_miss("error_panel", says="errors a second")
def no_share():
    return panel(ERRORS)


@near_miss("error_panel", says="answers of all routes")
def share_of_the_whole():
    return panel(f"{ERRORS} / scalar(sum(rate(market_api_requests_total[1m])))")


@near_miss("error_panel", says="legendFormat")
def nameless_bars():
    return panel(f"{ERRORS} / {ANSWERS}", legend="errors")


def incident(service: str) -> Incident:
    """One for all answers about a service: it takes seconds until the numbers show it."""
    if service not in _incidents:
        end_incidents()
        _incidents[service] = Incident(service)
    return _incidents[service]


def end_incidents() -> None:
    while _incidents:
        _incidents.popitem()[1].stop()


@right("saturated_service")
def requests_in_progress():
    return incident("market-api"), "market-api", QUEUES["market-api"]


@right("saturated_service")
def sessions_that_wait():
    return incident("postgres-dwh"), "postgres-dwh", QUEUES["postgres-dwh"]


@near_miss("saturated_service", says="look at the other two")
def the_wrong_one():
    return incident("postgres-dwh"), "kafka", QUEUES["kafka"]


@near_miss("saturated_service", says="that is not a queue")
def it_answers():
    return incident("postgres-dwh"), "postgres-dwh", 'up{job="postgres-exporter"}'


@right("saturated_service")
def records_not_read():
    return incident("kafka"), "kafka", 'scalar(max(kafka_consumergroup_lag{consumergroup="incident-billing"}))'


@near_miss("saturated_service", says="how much waits there")
def how_busy_it_is():
    return incident("kafka"), "kafka", "sum(rate(kafka_topic_partition_current_offset[30s]))"


@near_miss("saturated_service", says="nothing waits")
def what_was_written_and_not_what_waits():
    return incident("kafka"), "kafka", 'sum(kafka_topic_partition_current_offset{topic="primeur.incident"})'


@near_miss("saturated_service", says="nothing waits")
def what_was_answered():
    return incident("kafka"), "kafka", "max(market_api_requests_total) # of all routes"


@right("saturated_service")
def written_and_not_read():
    read = 'sum(kafka_consumergroup_current_offset{consumergroup="incident-billing"})'
    return incident("kafka"), "kafka", f'sum(kafka_topic_partition_current_offset{{topic="primeur.incident"}}) - {read}'


@near_miss("saturated_service", says="sum() them")
def every_partition():
    return incident("kafka"), "kafka", 'kafka_consumergroup_lag{consumergroup="incident-billing"}'


@near_miss("saturated_service", says="expected one of")
def an_exporter():
    return incident("kafka"), "kafka-exporter", QUEUES["kafka"]
