"""The reference page of metrics, from the calls that define them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

from markdown import GENERATED, code, page, table

from apflow.server.observability import metrics, model_metrics

HEAD = """# Metrics

`GET /metrics` of a server returns these for Prometheus. *Here* means the process that answers: sum over all
servers and workers of a database, except for what is counted in the database. If the server requires
tokens, only an admin may read them.
"""
NOTE = """The usual metrics of a Python process follow (`process_*`, `python_info`). A histogram has
`_bucket`, `_sum` and `_count`; a summary has `_sum` and `_count`. The label `executor` is `group` for tasks
without an executor, and `unknown` if the executor is not known here; `name` and `model` are `other` beyond
the first 100 names and 200 models.
"""
KINDS = {
    "Counter": "counter", "CounterMetricFamily": "counter", "_counter": "counter", "Gauge": "gauge",
    "GaugeMetricFamily": "gauge", "_gauge": "gauge", "Histogram": "histogram", "Summary": "summary",
}  # fmt: skip


def metrics_page() -> str:
    rows = sorted(row for module in (metrics, model_metrics) for row in defined_in(inspect.getsource(module)))
    return page(HEAD, GENERATED, table(["metric", "type", "labels", "meaning"], rows), NOTE)


def defined_in(source: str) -> Iterator[list[str]]:
    """Yield a row for each metric that a module defines."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS):
            continue
        name, about = (each.value if isinstance(each, ast.Constant) else None for each in node.args[:2])
        if isinstance(name, str) and isinstance(about, str):
            kind = KINDS[node.func.id]
            suffix = "_total" if kind == "counter" else ""
            yield [code(name + suffix), kind, ", ".join(map(code, labels_of(node))), about]


def labels_of(node: ast.Call) -> list[str]:
    given = [each.value for each in node.keywords if each.arg == "labels"] + node.args[2:3]
    lists = [each for each in given if isinstance(each, ast.List)]
    return [str(each.value) for found in lists for each in found.elts if isinstance(each, ast.Constant)]
