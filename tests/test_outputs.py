"""Where results go: files, links, pipes, devices and descriptors, with the modes that they get, through the real command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import terminal
from pipeline.__main__ import main
from pipeline.errors import UsageError
from pipeline.run.atomic import atomic, require_output, write_bytes
from pipeline.run.csv_text import FORMULA, guarded, unguarded

ROOT = Path(__file__).parent.parent
CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "-1"}}
TOKENS = {"content": [{"token": "-1", "bytes": [45, 49], "logprob": -0.1, "top_logprobs": []}]}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def replies(tmp_path_factory) -> Path:
    """A batch output of which `import` makes a table; ids and answers look like formulas."""
    folder = tmp_path_factory.mktemp("replies")
    path = folder / "batch.jsonl"
    line = {"response": {"status_code": 200, "body": {"model": "m", "choices": [{**CHOICE, "logprobs": TOKENS}]}}}
    path.write_text("".join(json.dumps({"custom_id": f"=cmd|{i}", **line}) + "\n" for i in range(5)))
    (folder / "labels.jsonl").write_text(
        "".join(json.dumps({"id": f"=cmd|{i}", "label": "-1"}) + "\n" for i in range(5))
    )
    return path


def imported(replies: Path, output: str) -> int:
    labels = str(replies.with_name("labels.jsonl"))
    return main(
        [
            "import",
            "batch",
            str(replies),
            "--labels-from",
            labels,
            "--id",
            "id",
            "--answers=-1,+1",
            "--output",
            output,
        ]
    )


def test_a_table_goes_through_devices_pipes_and_links(replies, tmp_path, open_umask, capfd) -> None:
    plain = tmp_path / "new" / "deep" / "table.csv"
    assert imported(replies, str(plain)) == 0
    expected = plain.read_bytes()
    assert [mode(plain), mode(plain.parent), mode(plain.parent.parent)] == [0o600, 0o700, 0o700]

    before = os.stat("/dev/null")
    assert imported(replies, "/dev/null") == 0
    assert (os.stat("/dev/null").st_rdev, os.stat("/dev/null").st_ino) == (before.st_rdev, before.st_ino)

    link, target = tmp_path / "link.csv", tmp_path / "target.csv"
    target.write_text("old")
    target.chmod(0o644)
    link.symlink_to("target.csv")
    assert imported(replies, str(link)) == 0
    assert link.is_symlink()
    assert (target.read_bytes(), mode(target)) == (expected, 0o644)

    (tmp_path / "dangling.csv").symlink_to(tmp_path / "elsewhere.csv")
    assert imported(replies, str(tmp_path / "dangling.csv")) == 0
    assert (tmp_path / "dangling.csv").is_symlink()
    assert (tmp_path / "elsewhere.csv").read_bytes() == expected

    first, second = tmp_path / "one.csv", tmp_path / "two.csv"
    first.write_text("old")
    os.link(first, second)
    assert imported(replies, str(first)) == 0
    assert second.read_bytes() == expected
    assert first.samefile(second)

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    assert imported(replies, str(pipe)) == 0
    reader.join(30)
    assert (got, pipe.is_fifo()) == ([expected], True)

    capfd.readouterr()
    assert imported(replies, "/dev/stdout") == 0
    out, err = capfd.readouterr()
    assert out.encode() == expected, "what a person reads goes to standard error"
    assert "wrote /dev/stdout" in err

    circle = tmp_path / "circle.csv"
    circle.symlink_to("circle.csv")
    assert imported(replies, str(circle)) == 2
    assert imported(replies, str(tmp_path)) == 2
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_a_redirect_and_a_link_to_standard_output_append_as_the_shell_means_it(replies, tmp_path) -> None:
    """{ echo first; import --output /dev/stdout; echo last; } > file"""
    (tmp_path / "out").symlink_to("/dev/stdout")
    script = (
        f"echo first; {sys.executable} -m pipeline import batch {replies} --labels-from {replies.with_name('labels.jsonl')} --id id "
        f"--answers=-1,+1 --quiet --output {tmp_path / 'out'}; echo last"
    )
    with (tmp_path / "file").open("wb") as out:
        subprocess.run(["sh", "-c", script], cwd=ROOT, stdout=out, check=True, timeout=200)
    lines = (tmp_path / "file").read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("first", "last", 8)
    assert (tmp_path / "out").is_symlink()


def test_a_table_whose_texts_look_like_formulas_is_safe_in_a_spreadsheet_and_reads_back_as_it_was(
    replies, tmp_path
) -> None:
    from pipeline.collect.data import predictions_file
    from pipeline.config.split import Split

    assert imported(replies, str(tmp_path / "t.csv")) == imported(replies, str(tmp_path / "t.parquet")) == 0
    text = (tmp_path / "t.csv").read_text()
    cells = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False).to_numpy().ravel()
    assert not [cell for cell in cells if cell.startswith(FORMULA)]
    one, other = (predictions_file.read(tmp_path / name, Split(certify=1.0)) for name in ("t.csv", "t.parquet"))
    assert list(one["example_id"]) == list(other["example_id"]) == [f"=cmd|{i}" for i in range(5)]
    assert list(one["cheap_answer"]) == ["-1"] * 5
    assert one["cheap_correct"].all()


@given(st.text(alphabet="'=+-@\t\r\n\uff1da1", max_size=6) | st.integers() | st.none())
def test_guarding_can_be_undone_and_no_guarded_text_is_a_formula(value) -> None:
    assert unguarded(guarded(value)) == value
    assert not (isinstance(value, str) and guarded(value).startswith(FORMULA))


def test_a_failed_write_changes_nothing(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.link(path, tmp_path / "same")  # one that is written to, not replaced
    for target in (path, tmp_path / "new"):
        with contextlib.suppress(RuntimeError), atomic(target) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "same"]


def test_a_place_that_cannot_be_written_is_noticed_beforehand(tmp_path) -> None:
    require_output(tmp_path / "a" / "b.md")
    require_output(Path("/dev/null"))
    require_output(Path("/dev/stdout"))
    assert not list(tmp_path.rglob("*.md"))
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "b.md"):
        with pytest.raises(UsageError, match="cannot be written"):
            require_output(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_a_file_to_its_owner(tmp_path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 1234, 1234)
    path.chmod(0o640)
    write_bytes(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (1234, 1234, 0o640)


@pytest.mark.slow
def test_every_file_and_folder_of_an_evaluation_is_its_owners_alone(tmp_path, open_umask) -> None:
    folders = ["--runs-dir", str(tmp_path / "a" / "runs"), "--reports-dir", str(tmp_path / "b" / "reports")]
    config = str(ROOT / "configs" / "retrieval_relevance.yaml")
    assert main(
        ["evaluate", config, "--limit", "400", *folders, "--markdown", str(tmp_path / "c" / "x.md"), "--quiet"]
    ) in (0, 4)
    assert (
        main(
            [
                "export",
                config,
                "--limit",
                "400",
                *folders,
                "--allow-demo",
                "--allow-uncertified",
                "--output",
                "/dev/null",
            ]
        )
        == 0
    )
    assert main(["status", "--runs-dir", folders[1], "--export-replies", str(tmp_path / "d")]) == 0
    loose = [p for p in tmp_path.rglob("*") if not p.is_symlink() and mode(p) & 0o077]
    assert not loose
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize(
    "out", [lambda: terminal.say("a line"), lambda: terminal.say_json({}), lambda: terminal.write("x")]
)
def test_a_run_goes_on_when_the_reader_of_its_output_has_left(monkeypatch, out) -> None:
    """As in `evaluate all | head -1`: the other tasks are evaluated all the same."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        for _ in range(2):
            out()
            terminal.flush()
        os.write(stream.fileno(), b"nobody is told off")
