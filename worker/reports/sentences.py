"""The comparison with the patient's other studies in sentences, for the report."""

from __future__ import annotations

from collections.abc import Iterator

from worker.comparison import Change
from worker.reports.history import History, Unread, Untimed


def describe(history: History) -> Iterator[str]:
    """Yield sentences on the comparison and on studies that could not be compared; none if there is neither."""
    for other in history.unmeasured:
        day = "" if other.taken_at is None else f" of {other.taken_at:%Y-%m-%d}"
        if isinstance(other, Untimed | Unread):
            yield f"No comparison with the study{day}: {other.reason}."
        else:
            yield f"No comparison with the prior study{day}, which was not measured: {other.reason}"
    if history.comparison is None or history.comparison.prior.taken_at is None:
        return
    change, then = history.comparison.change, f"the prior study of {history.comparison.prior.taken_at:%Y-%m-%d}"
    if history.prior and history.prior.was_measured_now:
        yield f"For the comparison {then} was measured now, in the same way."
    if change is None:
        yield f"No comparison with {then}: {history.comparison.obstacle}."
        return
    relative = "" if change.infection_percent is None else f" ({signed(change.infection_percent)} %)"
    yield (
        f"Since {then}, {describe_time(change)} before: infected volume {signed(change.infection_ml)} mL{relative}, "
        f"PoIR {signed(change.infected_percent_points)} percentage points."
    )
    if history.comparison.doubt:
        yield f"This comparison is uncertain: {history.comparison.doubt}."
    if change.is_rapid:
        yield (
            "The infected volume grew by more than 50 % within 48 hours, which Wu et al. (2020) cite as a sign of "
            "severe COVID-19. It is no diagnosis."
        )


def describe_time(change: Change) -> str:
    """Return the time since the prior in words: in hours below 72 hours, otherwise (or without times) in days."""
    hours = change.since.total_seconds() / 3600
    if hours >= 72 or change.is_by_date:
        return _counted(round(hours / 24), "day")
    return _counted(round(hours), "hour") if round(hours) else "less than an hour"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def signed(value: float) -> str:
    """Return a change with one decimal and its sign; a change that rounds to zero has no sign."""
    told = f"{value:+.1f}"
    return told if float(told) else told[1:]
