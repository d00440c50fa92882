#!/usr/bin/env python3
"""Asks a Prometheus what each panel of dashboard.json shows, and prints it as Markdown.

panels.py [http://127.0.0.1:9090 [SECONDS]]: the last value of each line, and its course over so many seconds.
"""

import json
import math
import pathlib
import sys
import time
import urllib.parse
import urllib.request

SERVER = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9090"
SPAN = int(sys.argv[2]) if len(sys.argv) > 2 else 120
POINTS = 24
BARS = "▁▂▃▄▅▆▇█"


def ask(expression):
    """The lines of a panel: labels, and a value or None for each point."""
    end = time.time()
    values = {"query": expression, "start": end - SPAN, "end": end, "step": SPAN / POINTS}
    url = f"{SERVER}/api/v1/query_range?{urllib.parse.urlencode(values)}"
    with urllib.request.urlopen(url) as answer:
        result = json.load(answer)["data"]["result"]
    return [(line["metric"].get("backend", ""), [float(value) for _, value in line["values"]]) for line in result]


def course(values):
    known = [value for value in values if math.isfinite(value)]
    top = max(known, default=0)
    bar = lambda value: BARS[round(value / top * (len(BARS) - 1))] if top else BARS[0]
    return "".join(bar(value) if math.isfinite(value) else " " for value in values)


def shown(value, unit):
    if not math.isfinite(value):
        return "no data"
    if unit == "s":
        return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"
    return f"{value:.2f}".rstrip("0").rstrip(".")


dashboard = json.loads((pathlib.Path(__file__).parent / "dashboard.json").read_text())
print(f"| panel | line | now | the last {SPAN} s |\n|---|---|---|---|")
empty = False
for panel in dashboard["panels"]:
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "15s").replace("$backend", ".*")
        lines = ask(expression)
        empty |= not lines
        for backend, values in lines or [("nothing", [math.nan])]:
            name = target.get("legendFormat", "").replace("{{backend}}", backend).replace("__auto", backend)
            print(f"| {panel['title']} | {name or 'all'} | {shown(values[-1], unit)} | `{course(values)}` |")
sys.exit(empty)
