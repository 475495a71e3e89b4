# SPDX-License-Identifier: Apache-2.0
"""The pages of the backend, in the looks of the gallery: whatever a task is called, it stays text."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from da3_core.web.backend.schema import BackendStatus, TaskStatus
from da3_core.web.backend.work import STAGES

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
REFRESH_SECONDS = 5  # of browsers without scripts
SHOWN_FINISHED = 10
SHOWN_FILES = 12
SCRIPT = Path(__file__).parent / "static/dashboard.js"

_STYLE = (
    (Path(__file__).parents[1] / "gallery/static/gallery.css").read_text(encoding="utf-8")
    + """
h2 { margin: 1.2rem 0 .5rem }
h3 { margin: 1.2rem 0 .3rem; font-size: 1rem; overflow-wrap: anywhere }
.scrolls { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
         overflow-wrap: anywhere; min-width: 5.5rem }
th { white-space: nowrap }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin-left: auto }
.task { display: flex; flex-wrap: wrap; gap: .5rem 1rem; margin-bottom: .8rem; padding: .8rem; border-radius: 8px;
        border: 1px solid var(--line); background: var(--card) }
.task img { width: 10rem; height: 7rem; object-fit: cover; border-radius: 6px; background: var(--page) }
.task div { flex: 1 1 15rem; min-width: 0; overflow-wrap: anywhere }
.task h3, .task p { margin: 0 0 .3rem }
.task progress { width: 100%; accent-color: var(--accent) }
.task ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem }
.task button { align-self: flex-start }
"""
)


def start_page(has_gallery: bool) -> str:
    """Where everything is."""
    return _page("Depth Anything 3 Backend", f"<main><ul>{_places(has_gallery)}</ul></main>")


def dashboard(status: BackendStatus, tasks: list[TaskStatus], refresh: bool, has_gallery: bool = False) -> str:
    """The model and the tasks as of now; a script keeps them so, or `refresh` where a browser runs none."""
    active = [task for task in tasks if task.completed_at is None]
    finished = [task for task in reversed(tasks) if task.completed_at is not None]
    model = {
        "state": "loaded" if status.model_loaded else "not loaded",
        "model": f"{status.model_dir} ({status.model})" if status.model else status.model_dir,
        "warning": status.warning or "",
        "device": status.device,
        "loading took": "" if status.load_time is None else f"{status.load_time:.1f} s",
        "loaded for": _duration(status.uptime) if status.model_loaded else "",
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
        f'<main><noscript><p>{link}</p></noscript><p id="message" role="status"></p><div id="live">'
        f"<h2>Model</h2>{_table((), ((name, value) for name, value in model.items() if value))}"
        f"<h2>Tasks</h2><p>{counts}</p>{_tasks(active)}"
        f"<h2>Last finished</h2>{_tasks(finished[:SHOWN_FINISHED])}</div></main>"
    )
    head = '<script src="dashboard.js" defer></script>'
    if refresh:
        head += f'<noscript><meta http-equiv="refresh" content="{REFRESH_SECONDS}"></noscript>'
    return _page("Dashboard", body, head, f"<nav>{_places(has_gallery, 'a')}</nav>")


def _places(has_gallery: bool, within: str = "li") -> str:
    places = [("dashboard", "Dashboard"), ("docs", "HTTP interface")]
    if has_gallery:
        places.insert(1, ("gallery/", "Gallery"))
    links = [f'<a href="{path}">{name}</a>' for path, name in places]
    return "".join(links if within == "a" else (f"<li>{link}</li>" for link in links))


def interface(openapi: dict[str, Any]) -> str:
    """Every path with its parameters and fields, from the description that `/openapi.json` is."""
    schemas = openapi["components"]["schemas"]
    parts = ["<h2>Paths</h2>"]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            body = _schema_name(operation.get("requestBody", {}))
            answer = _schema_name(operation["responses"].get("200", {}))
            said = escape(operation.get("description", ""))
            takes = f' Takes <a href="#{escape(body)}">{escape(body)}</a>.' if body else ""
            gives = f' Answers <a href="#{escape(answer)}">{escape(answer)}</a>.' if answer else ""
            parts.append(f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{said}{takes}{gives}</p>")
    parts.append("<h2>Objects</h2>")
    for name, schema in schemas.items():
        fields = schema.get("properties", {}).items()
        rows = ((field, _type(kind), _default(kind), kind.get("description", "")) for field, kind in fields)
        titles = ("field", "type", "default", "meaning")
        said = escape(schema.get("description", "").partition("\n")[0])
        parts.append(f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{said}</p>{_table(titles, rows)}')
    intro = '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>'
    return _page("HTTP interface", f"<main>{intro}{''.join(parts)}</main>")


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
    return f"<ul>{''.join(map(_task, tasks))}</ul>" if tasks else "<p>none</p>"


def _task(task: TaskStatus) -> str:
    is_active = task.completed_at is None
    name = task.export_dir or ("reload of the model" if task.kind == "reload" else "nothing is written")
    facts = [task.status, "" if task.num_images is None else f"{task.num_images} image{'s' * (task.num_images != 1)}"]
    facts.append(time.strftime("came at %H:%M:%S", time.localtime(task.created_at)))
    facts.append("" if task.queue_position is None else f"{task.queue_position} before it")
    seconds = _seconds_left(task)
    facts.append("" if seconds is None else f"about {_duration(seconds)} left")
    image = f'<img src="task/{task.task_id}/thumbnail" alt="" loading="lazy">' if task.kind == "inference" else ""
    bar = ""
    if is_active and task.progress is not None:
        bar = f'<progress value="{task.progress:.3f}" aria-label="Progress of {escape(name)}"></progress>'
    does = "Cancel" if is_active else "Forget"
    button = (
        f'<button id="end-{task.task_id}" type="button" data-task="{task.task_id}" '
        f'aria-label="{does} {escape(name)}">{does}</button>'
    )
    return (
        f'<li class="task">{image}<div><h3>{escape(name)}</h3><p>{" · ".join(filter(None, facts))}</p>'
        f"<p>{escape(task.message)}</p>{bar}<p><small>{task.task_id}</small></p>{_files(task)}</div>{button}</li>"
    )


def _seconds_left(task: TaskStatus) -> float | None:
    """By what the inference and all after it did in the time until now; None where that says nothing yet."""
    begin = STAGES["inference"][0]
    if task.completed_at is not None or task.started_at is None or task.progress is None or task.progress <= begin:
        return None
    return (time.time() - task.started_at) * (1 - task.progress) / (task.progress - begin)


def _files(task: TaskStatus) -> str:
    if task.result is None or task.result.export_dir is None or not task.result.files:
        return ""
    names = [os.path.relpath(file, task.result.export_dir) for file in task.result.files]
    links = [
        f'<li><a href="task/{task.task_id}/files/{escape(quote(name))}" download>{escape(name)}</a></li>'
        for name in names[:SHOWN_FILES]
    ]
    more = len(names) - SHOWN_FILES
    return f"<ul>{''.join(links)}{f'<li>and {more} more</li>' if more > 0 else ''}</ul>"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Without titles, the first cell of a row is its title."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = ""
    for row in rows:
        cells = [f"<td>{escape(cell)}</td>" for cell in row]
        if not head:
            cells[0] = cells[0].replace("<td>", '<th scope="row">').replace("</td>", "</th>")
        body += f"<tr>{''.join(cells)}</tr>"
    table = f"<table><tr>{head}</tr>{body}</table>" if head else f"<table>{body}</table>"
    return f'<div class="scrolls" tabindex="0" role="group" aria-label="Table">{table}</div>' if head else table


def _page(title: str, body: str, head: str = "", beside: str = "") -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{head}<style>{_STYLE}</style></head>'
        f'<body><header class="bar"><h1>{escape(title)}</h1>{beside}</header>{body}</body></html>'
    )
