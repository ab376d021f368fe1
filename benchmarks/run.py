"""Every benchmark, each in a process of its own: one table, results.json, and docs/performance.md made from it.

    python benchmarks/run.py [names]        e.g. certify decide; without names all of them (some minutes), and the files are written

Ratios are of things measured in one run, so they mean something on another machine; seconds and microseconds are this
machine's. What a benchmark prints on its way goes to standard error.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import datetime as dt
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from figure import Figure

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "performance.md"
NAMES = ("certify", "sweep", "metrics", "measure", "decide", "report", "collect")
VERSIONS = ("numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "matplotlib", "together")


def one(name: str) -> None:
    """Run a benchmark here, with the garbage collector set as the command line does; its figures as JSON on standard output."""
    benchmark = importlib.import_module(f"bench_{name}")
    garbage = importlib.import_module("pipeline.run.garbage")
    with contextlib.redirect_stdout(sys.stderr), garbage.searched_rarely():
        figures: list[Figure] = benchmark.main()
    print(json.dumps([dataclasses.asdict(f) for f in figures]))


def processor() -> str:
    """The processor's name, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """What ran it, without the machine's name."""
    return {
        "processor": processor(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "packages": {n: importlib.metadata.version(n) for n in VERSIONS},
    }


def number(value: float) -> str:
    """Three significant digits, thousands with a comma."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def page(results: dict[str, Any]) -> str:
    """docs/performance.md: the results as a reader meets them."""
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    told = [
        "# Performance",
        "",
        "`make bench` writes this page, and the figures as JSON to `benchmarks/results.json`. Ratios compare two measurements of the same run",
        "and carry over to other machines; times are those of this one:",
        "",
        f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, Python {machine['python']};",
        f"{packages}; {results['day']}.",
        "",
        "For the time that whole tables take, stage by stage, see [many rows, several machines](scale.md).",
        "",
    ]
    for name, figures in results["figures"].items():
        script = ast.get_docstring(ast.parse((HERE / f"bench_{name}.py").read_text("utf-8"))) or ""
        told += [f"## {name}", "", script.partition("\n\n")[0], "", "| measurement | value | goal |", "|---|---:|---|"]
        for f in figures:
            goal = "" if f["met"] is None else f"{f['goal']}: {'met' if f['met'] else '**not met**'}"
            told.append(f"| {f['what']} | {number(f['value'])} {f['unit']} | {goal} |")
        told.append("")
    return "\n".join(told)


def main(names: list[str]) -> None:
    found: dict[str, list[Figure]] = {}
    for name in names or NAMES:
        print(f"== {name}", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, __file__, "--one", name], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"benchmark {name} failed with exit code {done.returncode}")
        found[name] = [Figure(**f) for f in json.loads(done.stdout)]
    print(f"\n{'':10} {'what':72} {'':>10} {'':14} goal")
    for name, figures in found.items():
        for f in figures:
            goal = "" if f.met is None else f"{f.goal}: {'met' if f.met else 'NOT met'}"
            print(f"{name:10} {f.what:72} {number(f.value):>10} {f.unit:14} {goal}".rstrip())
    if not names:
        figures_by_name = {
            n: [dataclasses.asdict(f) | {"goal": f.goal, "met": f.met} for f in fs] for n, fs in found.items()
        }
        results = {
            "schema": "cascade-bench/1",
            "day": dt.datetime.now(dt.UTC).date().isoformat(),
            "machine": machine(),
            "figures": figures_by_name,
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
        PAGE.write_text(page(results), "utf-8")
        print("\nwrote", *(path.relative_to(HERE.parent) for path in (RESULTS, PAGE)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    one(given.one) if given.one else main(given.names)
