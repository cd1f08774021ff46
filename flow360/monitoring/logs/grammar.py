"""What parses the lines, made from stack/logs/lines.yaml: an ingest pipeline, and the same as Logstash's filter."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

LINES = Path(__file__).parents[3] / "stack" / "logs" / "lines.yaml"
CONF = Path("stack", "logstash", "pipeline", "20-filter.conf")
"""Where the filter stands in a checkout."""
PARSED = "event.original"
"""The line as it came; each step reads it from there."""

OF_A_TASK = "ctx.log?.file?.path != null && ctx.log.file.path.contains('dag_id=')"


@cache
def grammar() -> dict[str, Any]:
    """Read the grammar of the lines as the file has it."""
    return yaml.safe_load(LINES.read_text("utf-8"))


# --- Elasticsearch and OpenSearch -----------------------------------------------------------------------------------


def pipeline() -> dict[str, Any]:
    """Write the ingest pipeline, for `PUT _ingest/pipeline/…`."""
    lines = grammar()
    steps: list[dict[str, Any]] = [
        _step("set", field="event.ingested", value="{{{_ingest.timestamp}}}"),
        _step("rename", field="message", target_field=PARSED),
    ]
    for mask in lines["masks"]:
        steps.append(_step("gsub", field=PARSED, pattern=mask["what"], replacement=mask["by"]))
    is_json = "ctx.event.original.startsWith('{')"
    steps.append(_step("json", tag="_jsonparsefailure", field=PARSED, target_field="line", **{"if": is_json}))
    for key, field in lines["json"].items():
        free = " && ".join(_null_safe(field)) if field in list(lines["json"].values())[: _place(lines, key)] else ""
        renamed = {"field": f"line.{key}", "target_field": field, "ignore_missing": True}
        steps.append(_step("rename", **renamed, **({"if": free} if free else {})))
    steps.append(_step("remove", field="line", ignore_missing=True))
    steps.append(_grok("_grokparsefailure", PARSED, lines["formats"], **{"if": f"!{is_json}"}))
    steps.append(_grok("", "log.file.path", [lines["path"]], ignore_failure=True, **{"if": OF_A_TASK}))
    steps.append(_step("set", field="message", value="{{{event.original}}}", override=False))
    steps.append(_grok("", "message", [lines["trace"]], **{"if": "ctx.message.contains('' + (char) 10)"}))
    steps.append(
        _grok(
            "", "error.stack_trace", [lines["error"]], ignore_failure=True, **{"if": "ctx.error?.stack_trace != null"}
        )
    )
    steps.append(
        _step(
            "date",
            tag="_dateparsefailure",
            field="when",
            formats=lines["times"],
            timezone="{{{event.timezone}}}",
            **{"if": "ctx.when != null"},
        )
    )
    steps.append(_step("uppercase", field="log.level", ignore_missing=True))
    for spelling, level in lines["levels"].items():
        steps.append(_step("set", field="log.level", value=level, **{"if": f"ctx.log?.level == '{spelling}'"}))
    steps.append(_step("remove", field=["when", "rest"], ignore_missing=True))
    failed = [
        _step("append", field="tags", value="_pipelinefailure"),
        _step("set", field="message", value="{{{event.original}}}", override=False),
    ]
    return {"description": "Made from stack/logs/lines.yaml", "processors": steps, "on_failure": failed}


def rejected() -> dict[str, Any]:
    """Write the pipeline of what the index refused: the reason, and the document as it was sent, without addresses."""
    lines = grammar()
    steps = [
        _step("json", field="reply", target_field="answer"),
        _step("set", field="reason", value="{{{answer.error.reason}}}: {{{answer.error.caused_by.reason}}}"),
        _grok("", "request", ["^%{LINE:delivery}\\n%{ALL:document}"]),
        *(_step("gsub", field="document", pattern=one["what"], replacement=one["by"]) for one in lines["masks"]),
        _step("json", field="document", target_field="sent"),
        _step("rename", field="sent.service", target_field="service", ignore_missing=True),
        _step("rename", field="sent.log", target_field="log", ignore_missing=True),
        _step("remove", field=["reply", "answer", "request", "delivery", "sent"], ignore_missing=True),
    ]
    return {"description": "Made from stack/logs/lines.yaml", "processors": steps}


def _step(kind: str, tag: str = "", **said: Any) -> dict[str, Any]:
    """Write a processor; with a tag, one whose failure is written on the document, which goes on."""
    if tag:
        said["on_failure"] = [{"append": {"field": "tags", "value": tag}}]
    return {kind: said}


def _grok(tag: str, field: str, patterns: list[str], **more: Any) -> dict[str, Any]:
    used = {name: text for name, text in grammar()["patterns"].items() if any(f"{{{name}:" in one for one in patterns)}
    return _step("grok", tag, field=field, patterns=patterns, pattern_definitions=used, **more)


def _place(lines: dict[str, Any], key: str) -> int:
    return list(lines["json"]).index(key)


def _null_safe(field: str) -> list[str]:
    return [f"ctx.{field.replace('.', '?.')} == null"]


# --- Logstash -------------------------------------------------------------------------------------------------------


def logstash() -> str:
    """Write the same as a filter of Logstash."""
    lines = grammar()
    original = _bracketed(PARSED)
    out = ["# Made from stack/logs/lines.yaml by `flow360 generate`, not by hand.", "filter {"]
    out += ['if [type] in ["container", "task"] {', f'  mutate {{ rename => {{ "message" => "{original}" }} }}']
    for mask in lines["masks"]:
        out.append(f'  mutate {{ gsub => ["{original}", {_quoted(mask["what"])}, {_quoted(mask["by"])}] }}')
    out += [f"  if {original} =~ /^{{/ {{", f'    json {{ source => "{original}" target => "line" }}']
    taken: set[str] = set()
    for key, field in lines["json"].items():
        rename = f'mutate {{ rename => {{ "[line][{key}]" => "{_bracketed(field)}" }} }}'
        out.append(f"    if ![{field}] {{ {rename} }}" if field in taken else f"    {rename}")
        taken.add(field)
    out += ['    mutate { remove_field => ["line"] }', "  } else {"]
    out += _logstash_grok(original, lines["formats"], "    ", '["_grokparsefailure"]')
    out += ["  }"]
    out += _logstash_grok("[log][file][path]", [lines["path"]], "  ", "[]")
    out += [f'  if ![message] {{ mutate {{ copy => {{ "{original}" => "message" }} }} }}']
    out += [r"  if [message] =~ /\n/ {", *_logstash_grok("message", [lines["trace"]], "    ", "[]"), "  }"]
    out += ["  if [error][stack_trace] {"]
    out += [*_logstash_grok("[error][stack_trace]", [lines["error"]], "    ", "[]"), "  }"]
    times = ", ".join(f'"{one}"' for one in lines["times"])
    out += ["  if [when] {", f'    date {{ match => ["when", {times}] timezone => "%{{[event][timezone]}}" }}', "  }"]
    out += ['  mutate { uppercase => ["[log][level]"] }']
    for spelling, level in lines["levels"].items():
        changed = f'mutate {{ replace => {{ "[log][level]" => "{level}" }} }}'
        out.append(f'  if [log][level] == "{spelling}" {{ {changed} }}')
    out += ['  mutate { remove_field => ["when", "rest"] }', "}", "}"]
    return "\n".join(out) + "\n"


def _logstash_grok(field: str, patterns: list[str], indent: str, failed: str) -> list[str]:
    used = {name: text for name, text in grammar()["patterns"].items() if any(f"{{{name}:" in one for one in patterns)}
    out = [f"{indent}grok {{", f'{indent}  match => {{ "{field}" => [']
    named = [re.sub(r"(%{\w+:)([\w.]+)}", lambda match: f"{match[1]}{_bracketed(match[2])}}}", one) for one in patterns]
    out += [f"{indent}    {_quoted(one)}{',' if number < len(named) else ''}" for number, one in enumerate(named, 1)]
    out += [f"{indent}  ] }}", f"{indent}  pattern_definitions => {{"]
    out += [f'{indent}    "{name}" => {_quoted(text)}' for name, text in used.items()]
    taken = {match for one in patterns for match in re.findall(r"%{\w+:([\w.]+)}", one)}
    over = ", ".join(f'"{_bracketed(name)}"' for name in sorted(taken))
    out += [f"{indent}  }}", f"{indent}  overwrite => [{over}]", f"{indent}  tag_on_failure => {failed}", f"{indent}}}"]
    return out


def _bracketed(field: str) -> str:
    """Write a field as Logstash calls it: [log][level]; one without parts by its name."""
    return "".join(f"[{part}]" for part in field.split(".")) if "." in field else field


def _quoted(text: str) -> str:
    """Put a text in Logstash's quotes, which know no escapes: of two kinds, the one that it does not hold."""
    quote = "'" if '"' in text else '"'
    if quote in text:
        raise ValueError(f"Logstash cannot quote {text}")
    return f"{quote}{text}{quote}"
