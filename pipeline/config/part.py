"""Part: what all parts of a config have in common, and the kinds of number in them."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictFloat, StrictInt

from pipeline.config.limits import MOST_DOLLARS

Number = Annotated[StrictInt | StrictFloat, Field(allow_inf_nan=False)]
Dollars = Annotated[StrictInt | StrictFloat, Field(ge=0, le=MOST_DOLLARS, allow_inf_nan=False)]
Share = Annotated[StrictInt | StrictFloat, Field(ge=0, le=1, allow_inf_nan=False)]


def _day(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return dt.date.fromisoformat(value.strip())
    if not isinstance(value, dt.date):  # pydantic would take a number for seconds since 1970
        raise ValueError(f"{value!r} is not a date; write year-month-day, such as 2026-11-22")
    return value


Day = Annotated[dt.date, BeforeValidator(_day)]


class Part(BaseModel):
    """Base of all parts: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
