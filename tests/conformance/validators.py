"""The validators: dciodvfy, and PixelMed's for structured reports and for the rest."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.conformance.validation import DCIODVFY, PIXELMED, PIXELMED_SR
from tests.services import missing

TOOLS = (DCIODVFY, PIXELMED_SR, PIXELMED)
UNKNOWN = {
    DCIODVFY: "Information Object Not found",
    PIXELMED_SR: "IOD (SOP Class) unrecognized",
    PIXELMED: "IOD (SOP Class) unrecognized",
}
"""What each tool prints for a SOP class that it does not know."""

LOOKED = {DCIODVFY: "Device UID", PIXELMED_SR: "IOD validation complete", PIXELMED: "IOD validation complete"}
"""What each tool prints for every object that it validates; dciodvfy's edition of the standard lacks Device UID."""

JAVA = Path("/usr/share/java")
PIXELMED_NEEDS = ("pixelmed", "commons-codec", "vecmath", "slf4j-api", "slf4j-simple", "jsonp", "javax.json")


def run(program: str, *arguments: str | Path) -> str:
    """Run a peer's program and return all its output."""
    if shutil.which(program) is None:
        missing(program)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def ask(tool: str, path: Path) -> list[str] | None:
    """Return the lines that a validator prints for an object; None if it does not know the SOP class."""
    said = (run("dciodvfy", path) if tool == DCIODVFY else _pixelmed(tool, path)).splitlines()
    if any(UNKNOWN[tool] in line for line in said):
        return None
    assert any(LOOKED[tool] in line for line in said), said
    return said


def _pixelmed(validator: str, path: Path) -> str:
    if not (JAVA / "pixelmed.jar").exists():
        missing("PixelMed (libpixelmed-java)")
    jars = ":".join(str(JAVA / f"{name}.jar") for name in PIXELMED_NEEDS)
    unlimited = [f"-Djdk.xml.xpath{limit}=0" for limit in ("ExprGrpLimit", "ExprOpLimit", "TotalOpLimit")]
    options = ("-Xss64m", "-XX:TieredStopAtLevel=1", *unlimited, "-cp", jars)
    return run("java", *options, f"com.pixelmed.validate.{validator}", path)
