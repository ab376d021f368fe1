"""What a person sees while a run goes on: enough to steer by, never on stdout."""

from __future__ import annotations

import io

import pytest
from asking import request
from fake_provider import FakeProvider

from pipeline.collect.sending.progress import Progress

pytest_plugins = ("asking_fixtures",)


def test_the_line_tells_done_failed_in_flight_rate_dollars_projection_and_time_left():
    line = Progress("mail cheap", 1000, stream=io.StringIO()).line(
        done=300, sent=200, failed=10, in_flight=32, usd=0.5, seconds=20
    )
    assert (
        line
        == "mail cheap: 300 of 1,000 done, 10 failed, 32 in flight, 10.0 requests/s, $0.5000 spent, $2.2250 projected, 1 min 9 s left"
    )


def test_without_a_total_nothing_is_projected():
    line = Progress("x", None, stream=io.StringIO()).line(
        done=300, sent=200, failed=0, in_flight=1, usd=0.0, seconds=20
    )
    assert line == "x: 300 done, 0 failed, 1 in flight, 10.0 requests/s"


def test_nothing_sent_yet_is_no_rate_and_no_projection():
    line = Progress("x", 10, stream=io.StringIO()).line(done=0, sent=0, failed=0, in_flight=0, usd=0.0, seconds=0.0)
    assert line == "x: 0 of 10 done, 0 failed, 0 in flight, 0.0 requests/s"


def test_plain_lines_come_every_few_seconds_only():
    stream = io.StringIO()
    progress = Progress("x", 10, stream=stream)
    for i in range(1000):
        progress.update(done=i, sent=i, failed=0, in_flight=1, usd=0.0)
    progress.update(done=10, sent=10, failed=0, in_flight=0, usd=0.0, last=True)
    progress.close()
    assert stream.getvalue().count("\n") == 1


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = Progress("x", 10, stream=stream)
    progress.update(done=5, sent=5, failed=1, in_flight=2, usd=0.1, last=True)
    progress.close()
    for part in ("5/10", "1 failed", "2 in flight", "$0.1000 spent"):
        assert part in stream.getvalue()


@pytest.mark.parametrize("shown", [True, False])
def test_progress_goes_to_stderr_and_quiet_silences_it(ask, shown, capfd):
    with FakeProvider() as api:
        ask(api, [request("x")], progress=shown)
    out, err = capfd.readouterr()
    assert out == ""
    assert bool(err) == shown
