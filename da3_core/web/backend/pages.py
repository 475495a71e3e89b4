# SPDX-License-Identifier: Apache-2.0
"""The pages of the backend, without scripts: whatever a task is called, it stays text."""

from __future__ import annotations

import time
from collections.abc import Iterable
from html import escape
from typing import Any

from da3_core.web.backend.schema import BackendStatus, TaskStatus

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
REFRESH_SECONDS = 5
SHOWN_FINISHED = 10

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; vertical-align: top;
         overflow-wrap: anywhere; min-width: 5.5rem }
th { white-space: nowrap }
"""


def start_page(has_gallery: bool) -> str:
    """Where everything is."""
    places = [("dashboard", "Dashboard"), ("docs", "HTTP interface")]
    if has_gallery:
        places.insert(1, ("gallery/", "Gallery"))
    items = "".join(f'<li><a href="{path}">{name}</a></li>' for path, name in places)
    return _page("Depth Anything 3 Backend", f"<ul>{items}</ul>")


def dashboard(status: BackendStatus, tasks: list[TaskStatus], refresh: bool) -> str:
    """The model and the tasks as of now; `refresh` makes the browser ask again every few seconds."""
    active = [task for task in tasks if task.completed_at is None]
    finished = [task for task in reversed(tasks) if task.completed_at is not None]
    model = {
        "state": "loaded" if status.model_loaded else "not loaded",
        "model": f"{status.model_dir} ({status.model})" if status.model else status.model_dir,
        "warning": status.warning or "",
        "device": status.device,
        "loading took": "" if status.load_time is None else f"{status.load_time:.1f} s",
        "loaded for": f"{status.uptime:.0f} s" if status.model_loaded else "",
    }
    if status.gpu_memory:
        memory = status.gpu_memory
        model["GPU memory"] = f"{memory.free_gb:.1f} of {memory.total_gb:.1f} GB free"
    counts = ", ".join(
        f"{sum(task.status == state for task in tasks)} {state}"
        for state in ("pending", "running", "completed", "failed", "cancelled")
    )
    link = '<a href="?">stop refreshing</a>' if refresh else '<a href="?refresh=on">refresh by itself</a>'
    body = (
        f'<p><a href="?{"refresh=on" if refresh else ""}">refresh</a> · {link}</p>'
        f"<h2>Model</h2>{_table((), ((name, value) for name, value in model.items() if value))}"
        f"<h2>Tasks</h2><p>{counts}</p>"
        f"<h3>Active</h3>{_tasks(active)}<h3>Last finished</h3>{_tasks(finished[:SHOWN_FINISHED])}"
    )
    head = f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">' if refresh else ""
    return _page("Dashboard", body, head)


def interface(openapi: dict[str, Any]) -> str:
    """Every path with its parameters and fields, from the description that `/openapi.json` is."""
    schemas = openapi["components"]["schemas"]
    parts = []
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            body = _schema_name(operation.get("requestBody", {}))
            answer = _schema_name(operation["responses"].get("200", {}))
            said = escape(operation.get("description", ""))
            takes = f' Takes <a href="#{escape(body)}">{escape(body)}</a>.' if body else ""
            gives = f' Answers <a href="#{escape(answer)}">{escape(answer)}</a>.' if answer else ""
            parts.append(f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{said}{takes}{gives}</p>")
    for name, schema in schemas.items():
        fields = schema.get("properties", {}).items()
        rows = ((field, _type(kind), _default(kind), kind.get("description", "")) for field, kind in fields)
        titles = ("field", "type", "default", "meaning")
        said = escape(schema.get("description", "").partition("\n")[0])
        parts.append(f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{said}</p>{_table(titles, rows)}')
    intro = '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>'
    return _page("HTTP interface", intro + "".join(parts))


def _schema_name(part: dict[str, Any]) -> str:
    """Of a body or an answer; empty where it is no JSON object."""
    schemas = [content.get("schema", {}) for content in part.get("content", {}).values()]
    return next((str(schema["$ref"]).rpartition("/")[2] for schema in schemas if "$ref" in schema), "")


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return str(schema.get("type", schema.get("const", "any")))


def _default(schema: dict[str, Any]) -> str:
    return str(schema["default"]) if "default" in schema else ""


def _tasks(tasks: list[TaskStatus]) -> str:
    if not tasks:
        return "<p>none</p>"
    rows = (
        (
            time.strftime("%H:%M:%S", time.localtime(task.created_at)),
            task.task_id,
            task.status,
            "" if task.progress is None else f"{task.progress:.0%}",
            task.message,
            "" if task.num_images is None else str(task.num_images),
            task.export_dir or "",
        )
        for task in tasks
    )
    return _table(("came at", "task", "state", "progress", "message", "images", "export folder"), rows)


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>" if head else f"<table>{body}</table>"


def _page(title: str, body: str, head: str = "") -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>{head}'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
