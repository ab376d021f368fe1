"""Progress: the state of a run, on stderr."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TextIO

from tqdm import tqdm

from pipeline.terminal import say_aside, shown

EVERY_S = 5.0


class Progress:
    """A bar on a terminal, elsewhere a plain line every few seconds; nothing when `quiet`."""

    def __init__(self, label: str, total: int | None, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._label, self._total, self._quiet = label, total, quiet
        self._started = self._shown = time.monotonic()
        self._bar = (
            tqdm(total=total, desc=label, unit="req", file=self._stream, mininterval=0.2)
            if not quiet and self._stream.isatty()
            else None
        )

    def update(self, *, done: int, sent: int, failed: int, in_flight: int, usd: float, last: bool = False) -> None:
        """Show the state. `done` counts requests that need nothing more, `sent` those answered in this run."""
        now = time.monotonic()
        if self._quiet or (not last and now - self._shown < (0.2 if self._bar is not None else EVERY_S)):
            return
        self._shown = now
        line = self.line(done=done, sent=sent, failed=failed, in_flight=in_flight, usd=usd, seconds=now - self._started)
        if self._bar is not None:
            with suppress(OSError):  # the terminal was closed
                self._bar.n = done
                self._bar.set_postfix_str(line.partition(": ")[2].partition(", ")[2], refresh=True)
        elif sent or not last:
            self.note(line)

    def text(self, text: str) -> None:
        """A line of text in place of the bar; nothing if quiet."""
        if not self._quiet:
            self.note(f"{self._label}: {text}")

    def note(self, text: str) -> None:
        """A line that must be seen, above the bar; also if quiet."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.clear()
        say_aside(self._stream, shown(text) + "\n")

    def line(self, *, done: int, sent: int, failed: int, in_flight: int, usd: float, seconds: float) -> str:
        """The state as one line of text."""
        rate = sent / seconds if seconds > 0 else 0.0
        parts = [
            f"{done:,} of {self._total:,} done" if self._total is not None else f"{done:,} done",
            f"{failed:,} failed",
            f"{in_flight} in flight",
            f"{rate:.1f} requests/s",
        ]
        left = None if self._total is None else max(0, self._total - done - failed)
        if usd > 0:
            projected = "" if left is None or not sent else f", ${usd + usd / sent * left:.4f} projected"
            parts.append(f"${usd:.4f} spent" + projected)
        if left and rate > 0:
            parts.append(f"{_duration(left / rate)} left")
        return f"{self._label}: " + ", ".join(parts)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
