"""``hilum demo``: run the whole of Hilum once and show what came back to the PACS."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.deliver.outgoing import Outgoing, read_outgoing
from dicom_node.deliver.scu import echo
from dicom_node.errors import HilumError, PassingFailure, SettingsError
from dicom_node.figures import format_percent
from dicom_node.files import keep_private
from dicom_node.folder import read_one_study
from dicom_node.log import configure_logging
from dicom_node.pacs import SmallPACS
from dicom_node.peers import send_with_progress
from dicom_node.record.database import open_database
from dicom_node.record.studies import show_study
from dicom_node.settings import Destination, Settings, load_settings
from dicom_node.study import FINAL_JOB_STATES, JobState, StudyState
from worker.findings import Site
from worker.phantom import Truth, write_phantom
from worker.reports import codes
from worker.reports.reading import figure, groups, has_concept

READY_SECONDS = 60.0
ANSWER_SECONDS = 900.0

OWN_FOLDER = "hilum"
HEADING = "# What the demo ran with, and writes anew; a copy is a start for your own hilum.toml."
SETTINGS = """\
{heading}
[node]
port = {port}
quiet_seconds = 3        # a study counts as complete after this silence; the default is 30

[storage]
folder = "{storage}"

[[destinations]]
name = "PACS"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
"""


def run_demo(arguments: argparse.Namespace) -> int:
    """Send a study to Hilum, wait for its answer and show it; return 0 if the answer is a measurement, else 1."""
    configure_logging("demo")
    keep_private()  # a copy of the study lies in the demo's PACS, and the study may be a real one
    out = arguments.out.absolute()
    own = own_folder(out)
    truth, study = None, arguments.folder
    if study is None:
        study = out / "phantom"
        say(f"Making a chest phantom in {study}")
        truth = write_phantom(study)
    uid, objects = find_study(study)
    with SmallPACS(out / "pacs") as pacs, hilum_up(own, pacs) as (settings, hilum):
        say(f"Sending {len(objects)} instances to the PACS and to Hilum")
        for peer in (settings.destinations[0], hilum):
            send_with_progress(peer, settings, objects, Counter())
        answer = wait_for_answer(settings, uid)
        show(answer, [pydicom.dcmread(path) for path in results_in(pacs, answer)], truth, out)
    return 0 if answer["state"] == JobState.DONE else 1


def say(message: str) -> None:
    """Print a message at once, unbuffered."""
    print(message, flush=True)


def find_study(folder: Path) -> tuple[str, list[Outgoing]]:
    """Return the UID of the study in a folder, and its objects."""
    images = [image for series in read_one_study(folder) for image in series.images]
    return images[0].study_instance_uid, [read_outgoing(image.path) for image in images]


def own_folder(out: Path) -> Path:
    """Return the folder for the demo's settings, storage and log.

    The storage of an earlier demo is removed, so that the study is new to Hilum.

    Raises
    ------
    SettingsError
        The folder holds something that no demo made.
    """
    folder = out / OWN_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "hilum.toml"
    is_ours = file.is_file() and file.read_text(encoding="utf-8", errors="replace").startswith(HEADING)
    if not is_ours and any(folder.iterdir()):
        raise SettingsError("foreign-folder", f"{folder} was not made by the demo; name another folder with --out")
    if (storage := folder / "storage").exists():
        shutil.rmtree(storage)
    return folder


def own_settings(folder: Path, port: int, pacs_port: int) -> Settings:
    """Write the demo's settings and return them; the processes that the demo starts read these settings and no others.

    All ``HILUM_*`` variables are removed from the environment, also the one that names the folder of secrets: variables
    and secrets take precedence over a file, and a site's would lead the demo to the site's record and PACS.
    """
    file, storage = folder / "hilum.toml", folder / "storage"
    text = SETTINGS.format(heading=HEADING, port=port, storage=storage, pacs_port=pacs_port)
    file.write_text(text, encoding="utf-8")
    for name in [name for name in os.environ if name.upper().startswith("HILUM_")]:
        del os.environ[name]
    os.environ["HILUM_CONFIG"] = str(file)
    return load_settings()


@contextmanager
def hilum_up(folder: Path, pacs: SmallPACS) -> Iterator[tuple[Settings, Destination]]:
    """Run ``hilum up`` with settings of its own; yield the settings and Hilum as a destination to send to."""
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as probe:
        port = probe.server_address[1]
    settings, file = own_settings(folder, port, pacs.port), folder / "hilum.toml"
    hilum = Destination(name="Hilum", ae_title=settings.node.ae_title, host="127.0.0.1", port=port)
    say(f"Starting `hilum --config {file} up`; its log is {folder / 'hilum.log'}")
    with (folder / "hilum.log").open("wb") as log:
        # The command is our own interpreter.
        process = subprocess.Popen([sys.executable, "-m", "dicom_node", "up"], stdout=log, stderr=log)
    try:
        wait_until_ready(process, hilum, settings)
        yield settings, hilum
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], hilum: Destination, settings: Settings) -> None:
    """Return once Hilum answers C-ECHO."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            return echo(hilum, settings)
        except HilumError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise PassingFailure(
                    "not-ready", "Hilum did not start; hilum.log beside the settings says why"
                ) from error
            time.sleep(0.5)


def wait_for_answer(settings: Settings, study_instance_uid: str) -> dict[str, Any]:
    """Print each stage as it begins; return the study's record once it has ended and no delivery is pending."""
    engine, said = open_database(settings.database_url, settings.storage.folder), ""
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        study = show_study(engine, study_instance_uid)
        stage = f"{study['state']} {study['stage']}".strip()
        if stage != said:
            say(f"  {stage}")
            said = stage
        ended = study["state"] in (*FINAL_JOB_STATES, StudyState.SET_ASIDE)
        if ended and study["deliveries"]["pending"] == 0:
            return study
        time.sleep(0.5)
    raise PassingFailure("no-answer", "the answer did not come in time; hilum.log beside the settings says why")


def results_in(pacs: SmallPACS, answer: dict[str, Any]) -> list[Path]:
    """Return the files of the answer's objects in the PACS, which may also hold those of an earlier demo."""
    sent = {result["sop_instance_uid"] for result in answer["sent"]}
    return [path for path in pacs.objects(answer["study_instance_uid"]) if path.stem in sent]


def show(answer: dict[str, Any], results: list[Dataset], truth: Truth | None, out: Path) -> None:
    """Print what came back to the PACS, the figures beside the truth, and where the files are."""
    say("\nIn the PACS, in the same study:")
    for ds in results:
        say(f"  {ds.Modality:<3} {ds.SeriesDescription:<16} series {ds.SeriesNumber}  {ds.SOPInstanceUID}")
    if answer["reason"]:
        say(f"\nNot measured: {answer['reason']}")
    for ds in (ds for ds in results if ds.Modality == "SR"):
        show_proportions(proportions(ds), truth)
    for ds in (ds for ds in results if ds.Modality == "OT"):
        Image.fromarray(ds.pixel_array).save(out / "key-image.png")
        say(f"\nKey image: {out / 'key-image.png'}")
    say(f"Objects:   {out / 'pacs'}")


def show_proportions(measured: dict[Site, float], truth: Truth | None) -> None:
    """Print the PoIR of each site, and below it the true PoIR if it is known."""
    rows = {"in the report": measured}
    if truth:
        rows["in truth"] = {site: truth.infected_percent(site) for site in measured}
    say(f"\n{'Infected proportion (PoIR)':<28}" + "".join(f"{site:>9}" for site in measured))
    for name, percents in rows.items():
        say(f"  {name:<26}" + "".join(f"{format_percent(percent):>9}" for percent in percents.values()))


def proportions(report: Dataset) -> dict[Site, float]:
    """Return the PoIR of each site for which the report contains one."""
    return {
        site: percent
        for group in groups(report)
        if (percent := figure(group, codes.INFECTED_PERCENT)) is not None
        for site, side in codes.LATERALITY.items()
        if has_concept(group, codes.SIDE, side)
    }
