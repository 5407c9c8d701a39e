"""The values of options that are times."""

from __future__ import annotations

from typing import Any

import click


class UtcTime(click.DateTime):
    """A time without a zone, in UTC."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from datetime import UTC

        return super().convert(value, param, ctx).replace(tzinfo=UTC)


class Since(click.types.StringParamType):
    """A span of time before now, or a time, as `read_since` of the core reads it."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from apflow.core.errors import InvalidInputError
        from apflow.core.service.time_span import check_since

        try:
            return check_since(value)
        except InvalidInputError as error:
            self.fail(str(error), param, ctx)


class AnyTime(click.types.StringParamType):
    """A time in ISO 8601 format, with or without a zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from datetime import datetime

        try:
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time. Write it as 2026-11-27T08:30.", param, ctx)
