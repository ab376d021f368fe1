"""Two packages, arrows one way. This reads the imports and holds them to it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(p for package in ("cascade_threshold", "pipeline") for p in (ROOT / package).rglob("*.py"))
NO_WORLD = {"os", "pathlib", "time", "datetime", "socket", "random", "subprocess", "tempfile", "shutil", "io"}
# each part and the parts below it that it may import; whoever is not listed (the main path) is held by the cycle test alone
ALLOWED: dict[str, set[str]] = {
    "cascade_threshold": set(),
    "pipeline.errors": {"cascade_threshold"},
    "pipeline.redact": set(),
    "pipeline.terminal": {"pipeline.redact", "pipeline.errors"},
    "pipeline.config": {"cascade_threshold", "pipeline.errors", "pipeline.redact"},
    "pipeline.run": {"cascade_threshold", "pipeline.errors", "pipeline.config", "pipeline.redact"},
    "pipeline.collect": {
        "cascade_threshold",
        "pipeline.errors",
        "pipeline.config",
        "pipeline.run",
        "pipeline.demo",
        "pipeline.redact",
        "pipeline.terminal",
    },
    "pipeline.demo": {"pipeline.errors"},
    "pipeline.engine": {
        "cascade_threshold",
        "pipeline.errors",
        "pipeline.config",
        "pipeline.run",
        "pipeline.collect",
        "pipeline.decide",
    },
    "pipeline.store_commands": {
        "pipeline.terminal",
        "pipeline.errors",
        "pipeline.config",
        "pipeline.run",
        "pipeline.collect",
    },
    "pipeline.chosen_tasks": {
        "pipeline.terminal",
        "pipeline.errors",
        "pipeline.config",
        "pipeline.run",
        "pipeline.collect",
    },
    "pipeline.decide": {"cascade_threshold", "pipeline.errors", "pipeline.config"},
    "pipeline.deliver": {
        "cascade_threshold",
        "pipeline.errors",
        "pipeline.config",
        "pipeline.run",
        "pipeline.decide",
        "pipeline.terminal",
    },
}
ALL_OF_THEM = {
    "pipeline",
    "pipeline.evaluation",
    "pipeline.__main__",
    "pipeline.commands",
    "pipeline.compare_command",
    "pipeline.stages",
}
LEVELS = 9


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, by its full name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            inner = {f"{base}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= inner if len(inner) == len(node.names) else inner | {base}
    return found


def own(name: str) -> set[str]:
    """The project's modules that a module imports."""
    return imports(MODULES[name]) & set(MODULES) - {name}


def part(name: str) -> str:
    """The part a module belongs to: the runtime, or the first folder or file below `pipeline`."""
    top = name.split(".")
    return top[0] if top[0] == "cascade_threshold" else ".".join(top[:2])


@pytest.mark.parametrize("name", sorted(MODULES))
def test_arrows_run_one_way(name: str) -> None:
    for target in own(name):
        here, there = part(name), part(target)
        assert here == there or here in ALL_OF_THEM or there in ALLOWED[here], f"{name} must not import {target}"


def test_no_module_imports_itself_in_a_circle_and_there_are_few_levels() -> None:
    levels: dict[str, int] = {}

    def level(name: str, above: tuple[str, ...]) -> int:
        assert name not in above, f"import cycle: {' -> '.join([*above[above.index(name) :], name])}"
        if name not in levels:
            levels[name] = 1 + max((level(target, (*above, name)) for target in own(name)), default=0)
        return levels[name]

    for name in MODULES:
        level(name, ())
    parts = {part(name) for name in MODULES} - {"pipeline"}
    arrows = {
        here: {part(t) for n in MODULES if part(n) == here for t in own(n)} - {here, "pipeline"} for here in parts
    }
    heights: dict[str, int] = {}

    def height(here: str, above: tuple[str, ...]) -> int:
        assert here not in above, f"cycle of packages: {' -> '.join([*above[above.index(here) :], here])}"
        if here not in heights:
            heights[here] = 1 + max((height(there, (*above, here)) for there in arrows[here]), default=0)
        return heights[here]

    assert max(height(here, ()) for here in parts) <= LEVELS


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("pipeline.decide")])
def test_decide_knows_no_path_clock_network_or_global_chance(name: str) -> None:
    assert not {found.split(".")[0] for found in imports(MODULES[name])} & NO_WORLD


LAID_OUT = ("pipeline.deliver.report", "pipeline.deliver.formats", "pipeline.deliver.summary")
STATISTICS = {
    "mean",
    "average",
    "median",
    "quantile",
    "percentile",
    "std",
    "var",
    "cov",
    "nanmean",
    "nanmedian",
    "nanquantile",
    "histogram",
    "bincount",
    "cumsum",
    "argsort",
    "unique",
    "groupby",
    "value_counts",
    "ppf",
    "cdf",
}


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith(LAID_OUT)])
def test_what_lays_out_computes_no_figure(name: str) -> None:
    """Figures come from `decide`, where they are computed once; the page and the exports write them down."""
    tree = ast.parse(MODULES[name].read_text("utf-8"))
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & STATISTICS
    assert not {found.split(".")[0] for found in imports(MODULES[name])} & {"scipy", "sklearn", "statistics"}


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("cascade_threshold")])
def test_the_runtime_imports_the_standard_library_only(name: str) -> None:
    for found in imports(MODULES[name]):
        top = found.split(".")[0]
        assert top in sys.stdlib_module_names or top == "cascade_threshold", f"{name} imports {found}"


def test_importing_the_runtime_loads_no_third_party_module() -> None:
    code = "import sys, cascade_threshold; print(sorted({m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names) - {'cascade_threshold'}))"
    # -I -S: nothing of this environment's site-packages is loaded at start-up
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() in ("[]", "['__main__']"), done.stdout


@pytest.mark.parametrize("name", sorted(MODULES))
def test_row_58_nothing_is_pickled_and_no_file_holds_two_nouns(name: str) -> None:
    path = MODULES[name]
    assert not {"pickle", "joblib", "cloudpickle", "marshal", "shelve"} & {n.split(".")[0] for n in imports(path)}
    assert len(path.read_text("utf-8").splitlines()) <= 400


@pytest.mark.parametrize(
    "name", [n for n, p in MODULES.items() if p.name == "__init__.py" and n not in ("cascade_threshold", "pipeline")]
)
def test_packages_hand_nothing_on(name: str) -> None:
    body = ast.parse(MODULES[name].read_text("utf-8")).body
    assert all(isinstance(node, ast.Expr | ast.Assign) for node in body)


def test_what_takes_long_to_load_is_loaded_by_who_needs_it() -> None:
    """Of an import of all commands these were more than half; most commands draw nothing and fit nothing."""
    late = {"matplotlib", "sklearn", "scipy.stats", "scipy.signal", "together", "pipeline.deliver.report.figures"}
    drawing, asking = MODULES["pipeline.deliver.report.figures"], ROOT / "pipeline" / "collect" / "providers"
    for path in FILES:
        if path == drawing or path.is_relative_to(asking) or path.name == "transport.py":
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                names = {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
            else:
                names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            loads = {heavy for heavy in late for name in names if f"{name}.".startswith(f"{heavy}.")}
            assert not loads, f"{path}: loads {loads} wherever it is imported"
