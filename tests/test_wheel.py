"""The wheel: what `pip install cascade-threshold` brings, in environments that hold nothing else."""

from __future__ import annotations

import ast
import email
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from pipeline.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = sorted((ROOT / "cascade_threshold").rglob("*.py"))
LATER_THAN_3_10 = {
    "datetime": {"UTC"},
    "typing": {
        "Self",
        "LiteralString",
        "Never",
        "assert_never",
        "assert_type",
        "reveal_type",
        "override",
        "Required",
        "NotRequired",
        "Unpack",
        "TypeVarTuple",
        "dataclass_transform",
    },
    "enum": {"StrEnum", "ReprEnum", "verify", "EnumCheck", "member", "nonmember"},
    "asyncio": {"TaskGroup", "timeout", "Runner"},
    "hashlib": {"file_digest"},
    "contextlib": {"chdir"},
    "itertools": {"batched"},
    "math": {"exp2", "cbrt", "sumprod"},
    "builtins": {"ExceptionGroup", "BaseExceptionGroup"},
    "inspect": {"getmembers_static"},
    "operator": {"call"},
}
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
"""Every file of the project, relative to its root."""
BUNDLED = [name for name in TRACKED if name.split("/")[0] in ("configs", "datasets")]
LATER_MODULES = {"tomllib", "wsgiref.types"}


def python_3_10() -> str | None:
    """A Python 3.10 that runs, or None."""
    installed = sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))
    for candidate in [shutil.which("python3.10"), *map(str, installed)]:
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def built(kind: str, source: Path, out: Path) -> Path:
    """What setuptools builds of a folder: `wheel` or `sdist`."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(out)], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, built from a copy of what git knows, so that nothing is written into the clone."""
    source = tmp_path_factory.mktemp("source")
    for name in TRACKED:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    return built("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the unpacked sdist as an installer does it."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return built("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel alone, without its extras."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "-q",
            "--disable-pip-version-check",
            "--python",
            str(python),
            "install",
            "--no-index",
            str(wheel),
        ],
        check=True,
        capture_output=True,
    )
    return python


def run(python: Path | str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python), *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_wheel_needs_python_3_10_and_nothing_else_and_its_extras_carry_their_markers(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
        names = set(archive.namelist())
    assert metadata["Requires-Python"] == ">=3.10"
    needs = metadata.get_all("Requires-Dist")
    assert all("extra ==" in need for need in needs)
    evaluation = [need for need in needs if 'extra == "pipeline"' in need]
    assert len(evaluation) >= 10
    assert all('python_version >= "3.11"' in need for need in evaluation)
    assert {"cascade_threshold/py.typed", "cascade_threshold/schemas/policy.schema.json"} <= names
    assert "pipeline/deliver/report/templates/report.html.j2" in names


@pytest.mark.slow
def test_the_sdist_holds_the_project_and_the_wheel_each_bundled_file_once(sdist: Path, wheel: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {"/".join(member.name.split("/")[1:]) for member in archive.getmembers() if member.isfile()}
    assert set(TRACKED) - held == set()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        copies = {name.removeprefix("pipeline/demo/bundled/"): name for name in names if "/bundled/" in name}
        assert sorted(copies) == sorted(BUNDLED)
        assert all(archive.read(copies[name]) == (ROOT / name).read_bytes() for name in BUNDLED)
    packages = {name for name in TRACKED if name.split("/")[0] in ("cascade_threshold", "pipeline")}
    assert {name for name in names if ".dist-info/" not in name} == packages | set(copies.values())
    assert wheel.stat().st_size < 6_000_000


@pytest.mark.slow
def test_installed_alone_the_runtime_decides_beside_a_foreign_package_called_pipeline(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "service.py").write_text(
        "import pipeline, cascade_threshold, sys\n"
        "assert pipeline.MINE and cascade_threshold.load and cascade_threshold.Cascade\n"
        "from cascade_threshold.completion import parse\n"
        "assert parse('{}').problem\n"
        "third = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(third - {'service', 'pipeline', '__main__', '__mp_main__'}), cascade_threshold.__file__)\n"
    )
    done = run(installed, "service.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded, where = done.stdout.strip().split("] ")
    assert loaded == "['cascade_threshold'"
    assert Path(where).is_relative_to(installed.parent.parent)


@pytest.mark.slow
@pytest.mark.parametrize("command", [["-m", "pipeline"], ["cascade-threshold"]])
def test_without_the_extra_the_command_line_says_in_one_sentence_what_to_install(
    installed: Path, command: list[str], tmp_path: Path
) -> None:
    start = [str(installed), *command] if command[0] == "-m" else [str(installed.parent / command[0])]
    help_ = run(*start, "--help", cwd=tmp_path)
    assert (help_.returncode, "evaluate" in help_.stdout) == (0, True)
    done = run(*start, "evaluate", "email_triage", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "pip install 'cascade-threshold[pipeline]'" in done.stderr


def test_the_runtime_runs_under_python_3_10_and_the_evaluation_says_what_it_needs(tmp_path: Path) -> None:
    python = python_3_10()
    if python is None:
        pytest.skip("there is no Python 3.10 here; the syntax is read below all the same")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.dont_write_bytecode = True; "
    modules = ", ".join(".".join(p.relative_to(ROOT).with_suffix("").parts) for p in RUNTIME if p.stem != "__init__")
    done = run(python, "-I", "-c", f"{code}import {modules}; print('fine')", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
    main = f"{code}from pipeline.__main__ import main; sys.exit(main(['evaluate', 'email_triage']))"
    done = run(python, "-I", "-c", main, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "needs Python 3.11 or later" in done.stderr


@pytest.mark.parametrize("path", RUNTIME, ids=lambda p: p.stem)
def test_the_runtime_uses_neither_syntax_nor_names_that_3_10_lacks(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 10))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.TryStar), f"{path}: except*"
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & LATER_MODULES
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in LATER_MODULES
            assert not {alias.name for alias in node.names} & LATER_THAN_3_10.get(node.module or "", set()), path
        elif isinstance(node, ast.Attribute):
            assert node.attr not in {"UTC", "StrEnum", "TaskGroup", "file_digest", "add_note", "exp2", "cbrt"}, path
        elif isinstance(node, ast.Name):
            assert node.id not in LATER_THAN_3_10["builtins"], path


@pytest.fixture(scope="module")
def with_libraries(installed: Path) -> Path:
    """That Python with the libraries of this environment, and without the clone."""
    site = Path(sysconfig.get_path("purelib", vars={"base": str(installed.parent.parent)}))
    here = Path(sysconfig.get_path("purelib"))
    (site / "libraries.pth").write_text(
        f"{here}\n"
    )  # a path, so its own .pth files, the clone's among them, are not read
    return installed


def dockerfile() -> list[tuple[str, str]]:
    """Instructions and what they say."""
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    return [(word, rest) for line in lines if line and line[0] != "#" for word, _, rest in [line.partition(" ")]]


def test_the_dockerfile_installs_as_the_lock_and_the_build_say_and_copies_no_private_folder() -> None:
    steps = dockerfile()
    installs = [rest for word, rest in steps if word == "RUN" and "pip install" in rest]
    assert ["--require-hashes -r requirements/run.txt" in rest for rest in installs] == [True, False]
    assert installs[1].endswith("--no-deps --no-build-isolation .")
    assert "--hash=sha256:" in (ROOT / "requirements" / "run.txt").read_text("utf-8")
    assert {".git", "runs", "reports"} <= set((ROOT / ".dockerignore").read_text("utf-8").split())
    assert [word for word, _ in steps].index("USER") < [word for word, _ in steps].index("CMD"), "not as root"


@pytest.mark.slow
def test_from_an_empty_folder_the_wheel_runs_the_dockerfiles_main_job_and_a_file_of_ones_own(
    with_libraries: Path, tmp_path: Path
) -> None:
    steps, bin_ = dockerfile(), with_libraries.parent
    where = run(with_libraries, "-c", "import pipeline; print(pipeline.__file__)", cwd=tmp_path).stdout
    assert Path(where).is_relative_to(with_libraries.parent.parent)
    mine = tmp_path / "folder of mine"
    mine.mkdir()
    (demo,) = [rest.split() for word, rest in steps if word == "RUN" and rest.startswith("cascade-threshold")]
    done = run(bin_ / demo[0], *demo[1:], cwd=mine)
    assert done.returncode == 0, done.stderr
    written = {p.relative_to(mine).as_posix(): p.read_bytes() for p in mine.rglob("*") if p.is_file()}
    assert written == {name: (ROOT / name).read_bytes() for name in BUNDLED}
    entry, job = (json.loads(rest) for word, rest in steps if word in ("ENTRYPOINT", "CMD"))
    done = run(bin_ / entry[0], *job, "--quiet", "--json", cwd=mine)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "certified"
    assert (mine / found["report"]).is_file()
    command = bin_ / "cascade-threshold"
    own = tmp_path / "own"
    own.mkdir()
    rows = (ROOT / "datasets" / "email_triage" / "examples.jsonl").read_text("utf-8").splitlines()[:400]
    (own / "mails.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    assert run(command, "new", "mails", "--from", "mails.jsonl", "--label", "label", cwd=own).returncode == 0
    estimate = run(command, "estimate", "mails", "--json", cwd=own)
    assert json.loads(estimate.stdout)["to_send"] > 400
    (own / "table.csv").write_text(
        "example_id,confidence,cheap_correct,strong_correct\n"
        + "".join(f"{i},{(i % 100) / 100},{int(i % 100 > 20)},1\n" for i in range(1000))
    )
    (own / "configs" / "table.yaml").write_text(
        "task: table\nkind: classify\ntarget: {kind: match_strong, within: 0.05}\n"
    )
    done = run(command, "evaluate", "table", "--predictions", "table.csv", "--quiet", "--json", cwd=own)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "certified"), done.stderr


def test_demo_overwrites_no_file_and_adds_to_a_folder_that_holds_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text("task: mine\n")
    assert main(["demo", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["files"], "mine" in printed["tasks"]) == (len(BUNDLED), False)
    (tmp_path / BUNDLED[0]).write_text("changed")
    (tmp_path / BUNDLED[-1]).unlink()
    assert main(["demo", str(tmp_path)]) == 2
    assert "overwrites no file" in capsys.readouterr().err
    assert (tmp_path / BUNDLED[0]).read_text() == "changed"
    assert not (tmp_path / BUNDLED[-1]).exists(), "refused as a whole"
    assert main(["demo", str(tmp_path / "notes.txt")]) == 2
