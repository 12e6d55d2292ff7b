"""The possible outcomes of an analysis, and sentences that state them."""

from __future__ import annotations

from enum import StrEnum

from dicom_node.figures import format_percent
from worker.findings import Findings, Severity, Zone


class Outcome(StrEnum):
    """Every way in which an analysis can end; a report is written for each."""

    FOUND = "found"
    NOTHING_FOUND = "nothing-found"
    WITHHELD = "withheld"
    NOT_ANALYSABLE = "not-analysable"


def outcome_of(findings: Findings) -> Outcome:
    """Return the outcome of a measured study; a withheld percentage is never taken for zero."""
    if findings.measurement("both").infected_percent is None:
        return Outcome.WITHHELD
    return Outcome.FOUND if findings.has_infection else Outcome.NOTHING_FOUND


def conclusion(findings: Findings) -> str:
    """Return the result in words; if the percentage is withheld, with the flags' reasons."""
    both = findings.measurement("both")
    if both.infected_percent is None:
        why = " ".join(flag.message for flag in findings.flags if flag.withholds_percentage)
        return f"No proportion of infected region (PoIR) is given. {why}".rstrip()
    if not findings.has_infection:
        return f"No infected region found: 0 % of {both.lung_volume_ml:.0f} mL of lung (PoIR)."
    left, right = findings.measurement("left"), findings.measurement("right")
    sides = ", ".join(
        f"{measurement.site} {format_percent(measurement.infected_percent)}"
        for measurement in (left, right)
        if measurement.infected_percent is not None
    )
    return (
        f"Proportion of infected region (PoIR): {format_percent(both.infected_percent)} of the lungs"
        f" ({both.infection_volume_ml:.1f} of {both.lung_volume_ml:.0f} mL; {sides})."
    )


def describe_zones(severity: Severity) -> str:
    """Return a text with each zone's score, and the reason if there is no six-zone score."""
    sides = (
        f"{side} lung "
        + ", ".join(f"{zone.level} {_describe_zone(zone)}" for zone in severity.zones if zone.side == side)
        for side in ("right", "left")
    )
    told = f"Score of each zone, 0 to 4: {'; '.join(sides)}. Zones are thirds of the lungs' height."
    if severity.six_zone_score is not None:
        return told
    return f"{told} There is no six-zone score: a zone without aerated lung may be healthy or wholly consolidated."


def _describe_zone(zone: Zone) -> str:
    if zone.infected_percent is None:
        return "no aerated lung found"
    return f"{zone.score} ({format_percent(zone.infected_percent)})"
