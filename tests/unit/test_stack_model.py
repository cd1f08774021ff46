"""The model: the layers' files as data, and the order in which services start and stop."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml

from flow360.errors import Exit, FlowError
from flow360.settings import PORTS, ROOT, SPLIT
from flow360.stack import probes
from flow360.stack.model import RUNS, Config, Model, interpolate, merged, model, read_compose, read_model
from flow360.stack.native.configs import local_addresses, overlay, overlay_xml
from flow360.stack.native.programs import Programs


def small(folder: Path, compose: dict | None = None, native: str = "", env: dict | None = None) -> Model:
    """A model of two services, `base` and `top`, which needs it; the arguments add to the files or replace them."""
    services = compose or {
        "base": {"x-flow360": {"layer": 1, "title": "Base"}, "ports": ["127.0.0.1:${BASE_PORT:-1234}:1"]},
        "top": {
            "x-flow360": {"layer": 2, "title": "Top"},
            "profiles": ["all"],
            "depends_on": {"base": {"condition": "service_healthy"}},
        },
    }
    (folder / "compose.yaml").write_text(yaml.safe_dump({"services": services}), "utf-8")
    text = native or "".join(
        f'[{name}]\nruns = "real"\nwhat = "it"\nready = {{probe = "http"}}\n' for name in sorted(services)
    )
    (folder / "1_layer.toml").write_text(text, "utf-8")
    return read_model(folder / "compose.yaml", folder, env or {})


# --- variables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A", "one"),
        ("${A}", "one"),
        ("x${A}y$A", "xoneyone"),
        ("${NONE:-9}", "9"),
        ("${NONE-9}", "9"),
        ("${EMPTY:-9}", "9"),
        ("${EMPTY-9}", ""),
        ("${A:-9}", "one"),
        ("${NONE:?run up first}", ""),
        ("${A:?run up first}", "one"),
        ("$$A", "$A"),
        ("$$$$", "$$"),
        ("${NONE}", ""),
        ("100 $ and 5%", "100 $ and 5%"),
        ("${NONE:-}", ""),
    ],
)
def test_variables_are_replaced_as_compose_does(text, expected):
    assert interpolate(text, {"A": "one", "EMPTY": ""}) == expected


def test_a_port_comes_from_the_environment(tmp_path):
    assert small(tmp_path, env={"BASE_PORT": "4321"})["base"].ports == (4321,)
    assert small(tmp_path)["base"].port == 1234
    assert small(tmp_path)["top"].port is None


def test_variables_in_lists_and_tables_are_replaced_too(tmp_path):
    services = {
        "base": {"x-flow360": {"layer": 1, "title": "Base $A", "link": "http://h:${P:-80}/"}, "image": "img:${TAG:-1}"}
    }
    base = small(tmp_path, services, env={"A": "x", "TAG": "2"})["base"]
    assert (base.title, base.link, base.image) == ("Base x", "http://h:80/", "img:2")


# --- what is refused, in one line -------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]", "192.168.1.2", ""])
def test_a_port_beyond_this_machine_is_refused(tmp_path, address):
    spec = f"{address}:9000:9000" if address else "9000:9000"
    services = {"base": {"x-flow360": {"layer": 1, "title": "B"}, "ports": [spec]}}
    with pytest.raises(FlowError, match=r"base: port .* must start with 127\.0\.0\.1:") as caught:
        small(tmp_path, services)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("value", ["eighty", "0", "65536", "-1", "80.5"])
def test_a_port_that_is_none_is_refused_in_one_line(tmp_path, value):
    with pytest.raises(FlowError, match=re.escape(f"base: {value!r} is not a port number")) as caught:
        small(tmp_path, env={"BASE_PORT": value})
    assert "\n" not in caught.value.message


def test_an_unknown_key_is_named(tmp_path):
    with pytest.raises(FlowError, match=r"\[base\]: unknown key comand, portt"):
        small(
            tmp_path,
            {"base": {"x-flow360": {"layer": 1, "title": "B"}}},
            '[base]\nruns="real"\ncomand=["x"]\nportt=1\n',
        )


def test_what_runs_must_be_said(tmp_path):
    services = {"base": {"x-flow360": {"layer": 1, "title": "B"}}}
    with pytest.raises(FlowError, match="runs must be one of real, stand-in, compose only"):
        small(tmp_path, services, '[base]\nruns="sort of"\nwhat="it"\n')


def test_a_service_in_one_file_only_is_named(tmp_path):
    services = {name: {"x-flow360": {"layer": 1, "title": "B"}} for name in ("base", "more")}
    with pytest.raises(FlowError, match=r"only in \.yaml: more; only in \.toml: less"):
        small(tmp_path, services, '[base]\nruns="real"\nwhat="it"\n[less]\nruns="real"\nwhat="it"\n')


def test_an_unknown_service_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(FlowError, match="no service 'kafak'. There are: base, top") as caught:
        small(tmp_path)["kafak"]
    assert caught.value.code is Exit.USAGE


# --- order ------------------------------------------------------------------------------------------------------------


def chain(folder: Path, **needs: tuple[str, ...]) -> Model:
    services = {
        name: {
            "x-flow360": {"layer": 1, "title": name},
            "depends_on": {other: {"condition": "service_healthy"} for other in others},
        }
        for name, others in needs.items()
    }
    return small(folder, services)


def test_closure_puts_dependencies_first_and_each_once(tmp_path):
    diamond = chain(tmp_path, d=("b", "c"), b=("a",), c=("a",), a=(), alone=())
    order = diamond.closure(["d"])
    assert sorted(order) == ["a", "b", "c", "d"]
    assert order.index("a") < order.index("b") < order.index("d")
    assert order.index("c") < order.index("d")
    assert diamond.closure(["d", "a", "d"]) == order
    assert diamond.closure([]) == []


def test_dependants_come_first_and_reach_all_the_way_up(tmp_path):
    diamond = chain(tmp_path, d=("b", "c"), b=("a",), c=("a",), a=(), alone=())
    order = diamond.dependants(["a"])
    assert sorted(order) == ["a", "b", "c", "d"]
    assert order[0] == "d"
    assert order[-1] == "a"
    assert diamond.dependants(["c"]) == ["d", "c"]


def test_a_circle_is_named(tmp_path):
    with pytest.raises(FlowError, match="a -> b -> c -> a depends on itself"):
        chain(tmp_path, a=("b",), b=("c",), c=("a",)).closure(["a"])


def test_a_dependency_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FlowError, match="no service 'ghost'"):
        chain(tmp_path, a=("ghost",)).closure(["a"])


# --- the course's own files -------------------------------------------------------------------------------------------


def test_both_files_hold_the_same_services():
    raw = read_compose()["services"]
    assert set(raw) == {s.name for s in model().services.values() if not s.host}


def test_every_port_is_on_this_machine_only_and_has_a_variable():
    raw = read_compose(on_top=[SPLIT])["services"]
    for name, spec in raw.items():
        for port in spec.get("ports", ()):
            found = re.fullmatch(r"127\.0\.0\.1:\$\{(\w+_PORT):-(\d+)\}:\d+", port)
            assert found, f"{name}: {port}"
            assert PORTS[found[1]] == int(found[2]), f"{name}: {port}"
    published = {port for spec in raw.values() for port in spec.get("ports", ())}
    assert len(published) == len(PORTS) - 1  # JupyterLab is not in compose.yaml


def test_ports_differ():
    ports = [port for service in model().services.values() for port in service.ports]
    assert len(set(ports)) == len(ports)


def test_every_service_says_what_runs_and_can_be_asked():
    from flow360.stack.native import prepare

    for service in model().services.values():
        native = service.native
        assert native.runs in RUNS
        assert native.what
        assert service.title
        assert native.memory_mb > 0, service.name
        if native.runs == "compose only":
            assert native.why, service.name
        if native.ready:
            assert native.ready["probe"] in probes.PROBES, service.name
        if native.prepare:
            inspect.signature(prepare.STEPS[native.prepare]).bind(service, Path(), [])  # as the engine calls it
        for config in native.config:
            assert (ROOT / "stack" / config.file).is_file(), service.name
        assert set(native.jar_groups) <= set(model().jar_groups), service.name


def test_the_sources_start_commands_name_known_services():
    for profile in ("minimal", "ingestion", "sources", "storage", "replication", "complete"):
        assert model().profile(profile), profile
    everything = {s.name for s in model().services.values() if not s.host}
    assert set(model().profile("complete")) | set(model().profile("replication")) == everything
    assert model().profile("no such profile") == []


# --- config files -----------------------------------------------------------------------------------------------------


def test_overlay_replaces_appends_and_leaves_the_rest():
    text = "# port=1\nport=2181\nname = value\n\nother=3\n"
    got = overlay(text, {"port": "9", "name": "new", "extra": "x y"}, "=")
    assert got == "# port=1\nport=9\nname=new\n\nother=3\nextra=x y\n"


def test_overlay_with_a_space_as_separator():
    text = "listener 1883 0.0.0.0\nlistener_more 2\npersistence true\n"
    assert (
        overlay(text, {"listener": "9 127.0.0.1"}, " ") == "listener 9 127.0.0.1\nlistener_more 2\npersistence true\n"
    )


def test_overlay_with_nothing_to_change_keeps_the_text():
    text = "a=1\n#b=2\n"
    assert overlay(text, {}, "=") == text


def test_overlay_sets_a_key_that_stands_there_twice_in_both_places():
    assert overlay("a=1\na=2\n", {"a": "3"}, "=") == "a=3\na=3\n"


def test_addresses_of_containers_become_published_ports(tmp_path):
    services = small(tmp_path, env={"BASE_PORT": "4321"})
    text = "- targets: [base:1, base:2, other:1, 'top:1']  # base: 1, at 12:30, http://base:1/x, database:1, base:11\n"
    got = local_addresses(text, services)
    assert got == (
        "- targets: [127.0.0.1:4321, base:2, other:1, 'top:1']"
        "  # base: 1, at 12:30, http://127.0.0.1:4321/x, database:1, base:11\n"
    )


def test_what_prometheus_asks_is_published_by_the_service_of_that_name():
    """So a target needs one line, in prometheus.yml, for both engines."""
    config = yaml.safe_load((ROOT / "stack" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    for job in config["scrape_configs"]:
        (target,) = [target for group in job["static_configs"] for target in group["targets"]]
        service, port = target.split(":")
        assert int(port) in model()[service].published, target
        assert job["job_name"] in model().services, "an alert's `flow360 up {{ $labels.job }}` must work"


def test_config_defaults():
    assert Config("x").separator == "="


def test_overlay_of_hadoop_s_properties():
    text = (
        "<configuration><property><name>a</name><value>1</value></property>"
        "<property><name>b</name></property></configuration>"
    )
    got = overlay_xml(text, {"a": "x & y", "b": "2", "c": "3"})
    assert "<name>a</name><value>x &amp; y</value>" in got
    assert "<name>b</name><value>2</value>" in got
    assert got.count("<property>") == 3
    assert "<name>c</name><value>3</value>" in got


def test_several_config_files_and_a_class_path_are_read(tmp_path):
    text = """[base]
runs = "real"
what = "it"
config = [{file = "a.xml", set = {k = "v"}, addresses = true}, {file = "b.properties"}]
java = {main = "M", classpath = ["{conf}"], options = ["-Da=b"]}
ready = {probe = "http"}
"""
    about = {"x-flow360": {"layer": 1, "title": "B"}, "environment": {"OPTS": "-Xms1m -Xmx2m"}}
    native = small(tmp_path, {"base": about}, text)["base"].native
    assert [(c.file, c.addresses) for c in native.config] == [("a.xml", True), ("b.properties", False)]
    assert native.java.classpath == ("{conf}",)


@pytest.mark.parametrize(
    "spec",
    [
        {"environment": {"KAFKA_HEAP_OPTS": "-Xms32m -Xmx96m"}},
        {"environment": {"SPARK_DAEMON_MEMORY": "96m"}},
        {"command": ["Submit", "--driver-memory", "96m", "it"]},
    ],
)
def test_a_heap_stands_in_compose_yaml_and_nowhere_else(tmp_path, spec):
    about = {"x-flow360": {"layer": 1, "title": "B"}}
    text = '[base]\nruns = "real"\nwhat = "it"\njava = {main = "M"}\nready = {probe = "http"}\n'
    assert small(tmp_path, {"base": about | spec}, text)["base"].native.java.heap == "96m"
    with pytest.raises(FlowError, match="base: its heap"):
        small(tmp_path, {"base": about}, text)
    with pytest.raises(FlowError, match="unknown key heap"):
        small(tmp_path, {"base": about | spec}, text.replace('"M"', '"M", heap = "1m"'))


def test_a_service_like_another_takes_its_keys_and_its_own_win(tmp_path):
    services = {
        name: {"x-flow360": {"layer": 1, "title": name}, "ports": [f"127.0.0.1:{port}:1"]}
        for name, port in {"base": 1, "twin": 2}.items()
    }
    base = '[base]\nruns = "real"\nwhat = "it"\nargs = ["{own[0]}"]\nready = {probe = "http"}\n'
    text = base + '[twin]\nlike = "base"\nwhat = "me"\n'
    found = small(tmp_path, services, text)
    assert found["twin"].native.args == found["base"].native.args == ("{own[0]}",)
    assert (found["twin"].native.what, found["twin"].port) == ("me", 2)
    with pytest.raises(FlowError, match=r"\[twin\]: like = 'nobody' must name a service"):
        small(tmp_path, services, text.replace('like = "base"', 'like = "nobody"'))


def test_airflow_and_hive_can_have_servers_of_their_own(tmp_path, monkeypatch):
    together = read_model(env={})
    split = read_model(env={"COMPOSE_FILE": f"compose.yaml:{SPLIT}"})
    assert set(split.services) - set(together.services) == {"postgres-airflow", "postgres-hive"}
    for alias, job, server in (
        ("airflow-db", "airflow-init", "postgres-airflow"),
        ("hive-db", "hive-schema", "postgres-hive"),
    ):
        assert (together[alias].name, split[alias].name) == ("postgres-dwh", server)
        assert server in split.closure([job])
        assert server in split.dependants([server])
    for services, server in ((together, "postgres-dwh"), (split, "postgres-airflow")):
        programs, port = Programs(services, tmp_path), services[server].port
        for name in ("airflow-init", "airflow-scheduler"):
            connection = programs.environment(services[name])["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
            assert f"@127.0.0.1:{port}/airflow_metadata" in connection
        assert probes.of(services, services["airflow-scheduler"]).args == (port,)
    for name in ("hive-schema", "hive-metastore"):
        Programs(split, tmp_path).write_config(split[name])
        text = (tmp_path / name / "conf" / "hive-site.xml").read_text("utf-8")
        assert f"//127.0.0.1:{split['postgres-hive'].port}/hive_metastore" in text


def test_a_job_is_done_again_when_it_works_on_other_services(tmp_path):
    together = Programs(read_model(env={}), tmp_path)
    split = Programs(read_model(env={"COMPOSE_FILE": SPLIT}), tmp_path)
    (tmp_path / "run").mkdir()
    job = together.model["airflow-init"]
    assert not together.is_done(job)
    together.mark_done(job)
    assert together.is_done(job)
    assert not split.is_done(split.model["airflow-init"])


def test_a_job_is_done_again_when_a_file_of_it_has_changed(tmp_path, monkeypatch):
    ours = Programs(read_model(env={}), tmp_path)
    (tmp_path / "run").mkdir()
    job = ours.model["elasticsearch-setup"]
    ours.mark_done(job)
    assert ours.is_done(job)
    for config in job.native.config:
        (tmp_path / config.file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / config.file).write_text("another")
    monkeypatch.setattr("flow360.stack.native.programs.STACK", tmp_path)
    assert not ours.is_done(job)


def test_mappings_and_lists_are_joined_commands_and_all_else_replaced():
    below = {"a": {"b": 1, "ports": [1]}, "d": 2, "command": ["x"]}
    above = {"a": {"ports": [3, 1]}, "e": 4, "command": ["y"]}
    assert merged(below, above) == {"a": {"b": 1, "ports": [1, 3]}, "d": 2, "e": 4, "command": ["y"]}


def test_who_signs_in_with_a_role_waits_for_the_job_that_makes_it():
    for name, service in read_compose()["services"].items():
        # Monitoring does not wait for what it watches: postgres-exporter says so while its role is not there.
        roles = re.search(r"(AIRFLOW|HIVE)_DB_PASSWORD", str(service.get("environment")))
        if roles and name != "postgres-databases":
            assert "postgres-databases" in model().closure([name]), name


def test_groups_of_jars(tmp_path):
    services = {"base": {"x-flow360": {"layer": 1, "title": "B"}}}
    text = """[base]
runs = "real"
what = "it"
jars = "a"
archives = ["b"]
[jars.a]
roots = ["g:a:1"]
exclude = ["g:*"]
[jars.b]
also = ["g:b:1:bin@zip"]
"""
    found = small(tmp_path, services, text)
    assert found["base"].native.jar_groups == ("a", "b")
    assert (found.jar_groups["a"].exclude, found.jar_groups["b"].roots) == (("g:*",), ())
    with pytest.raises(FlowError, match=r"\[jars.b\]: unknown key roost"):
        small(tmp_path, services, text.replace("also", "roost"))


def test_a_probe_gets_the_ports_that_it_names():
    found = probes.of(model(), model()["datanode-2"])
    assert found.args == (model()["datanode-2"].ports[1],)
    assert found.keywords == {"namenode": model()["namenode"].ports[1]}
    assert probes.of(model(), model()["market-sensors"]).args == (model()["mosquitto"].port,)
