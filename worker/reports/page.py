"""A page to print, as Encapsulated PDF (PS3.3 A.45.1): patient identifiers, findings and the key image."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence

from highdicom.sr import CodedConcept
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from worker.reports import codes, context, style
from worker.reports.context import ResultContext
from worker.reports.style import WARNING, Rgb

_SIZE, _DOTS_PER_INCH, _MARGIN = (1240, 1754), 150, 70
"""A4 in dots."""

_WIDTH = _SIZE[0] - 2 * _MARGIN
_BOTTOM = _SIZE[1] - _MARGIN - 50
"""From here on the warning has the page to itself."""

_INK, _GRAY = (20, 24, 30), (95, 105, 115)
_TEXT_SIZE, _CHARACTERS_A_LINE, _LINE, _GAP = 21, 100, 29, 12
_MOST_LINES = 12
"""A longer text is cut short, so that it does not take the room of those after it."""

_CUT = " [...]"
_LEAST_PICTURE = 700
"""Height of the picture in dots, below which its figures are hard to read; text that leaves less is left out."""

_WHOSE = (
    ("Patient ID", "PatientID"),
    ("Issuer", "IssuerOfPatientID"),
    ("Accession number", "AccessionNumber"),
    ("Study date", "StudyDate"),
)
"""Patient and study attributes on the page. The name is left out: the typeface has only Latin letters."""


def draw_page(identity: Dataset, texts: Sequence[str], picture: Image.Image | None) -> Image.Image:
    """Return the page, with the picture, if there is one, below the text.

    Parameters
    ----------
    texts : sequence of str
        The most important first. Those that do not fit are left out, and a line says how many.
    """
    page = Image.new("RGB", _SIZE, (255, 255, 255))
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, _MARGIN), "Hilum: infected lung in CT of the chest", font=style.font(36), fill=_INK)
    whose = ", ".join(f"{name} {identity.get(keyword)}" for name, keyword in _WHOSE if identity.get(keyword))
    y = _write(draw, _MARGIN + 52, wrap(whose or "No patient is named.", 20, most_lines=3), 20, _GRAY) + _LINE
    for lines in fitting(texts, _BOTTOM - y - (_GAP + _LEAST_PICTURE if picture else 0)):
        y = _write(draw, y, lines, _TEXT_SIZE, _INK) + _GAP
    if picture:
        y += _GAP
        scale = min(_WIDTH / picture.width, (_BOTTOM - y) / picture.height)
        shown = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.LANCZOS)
        page.paste(shown, ((_SIZE[0] - shown.width) // 2, y))
    draw.text((_SIZE[0] // 2, _SIZE[1] - _MARGIN), WARNING, font=style.font(28), fill=_INK, anchor="mm")
    return page


def fitting(texts: Sequence[str], room: int) -> list[list[str]]:
    """Return the lines of each text, as far as the texts fit in a room of this height (dots).

    A text is left out rather than broken off, unless it is very long. If any is not whole, the last lines say so.
    """
    wrapped = [wrap(text) for text in texts]
    whole = [not (lines and lines[-1].endswith(_CUT.strip())) for lines in wrapped]
    for count in range(len(texts), -1, -1):
        missing = len(texts) - sum(whole[:count])
        shown = [*wrapped[:count], wrap(_say_missing(missing, len(texts)))] if missing else wrapped
        if sum(len(lines) * _LINE + _GAP for lines in shown) <= room:
            break
    return shown


def _say_missing(missing: int, count: int) -> str:
    return f"Not on this page, or not whole: {missing} of {count} remarks. The structured report has them all."


def wrap(text: str, size: int = _TEXT_SIZE, most_lines: int = _MOST_LINES) -> list[str]:
    """Return a text in lines that are no wider than the page between its margins, cut short after the last line."""
    wrapped = (
        textwrap.wrap(text, characters, max_lines=most_lines, placeholder=_CUT)
        for characters in range(_CHARACTERS_A_LINE, len(_CUT), -1)
    )
    return next(lines for lines in wrapped if all(style.font(size).getlength(line) <= _WIDTH for line in lines))


def _write(draw: ImageDraw.ImageDraw, y: int, lines: Sequence[str], size: int, colour: Rgb) -> int:
    """Write lines from this height on; return the height below them."""
    for line in lines:
        draw.text((_MARGIN, y), line, font=style.font(size), fill=colour)
        y += _LINE
    return y


def build_page(page: Image.Image, made_of: Iterable[tuple[str, str]], shared: ResultContext) -> Dataset:
    """Return the page as an object of the study; ``made_of`` are its source images (SOP class, SOP instance)."""
    ds = shared.begin(context.PAGE, EncapsulatedPDFStorage)
    ds.Modality = "DOC"
    ds.AcquisitionDateTime = ""
    ds.SourceInstanceSequence = [context.source_image(*image) for image in dict.fromkeys(made_of)]
    ds.BurnedInAnnotation = "YES"
    ds.DocumentTitle = codes.DIAGNOSTIC_IMAGING_REPORT.meaning
    ds.ConceptNameCodeSequence = [CodedConcept.from_code(codes.DIAGNOSTIC_IMAGING_REPORT)]
    ds.VerificationFlag = "UNVERIFIED"
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    pdf = _as_pdf(page, shared)
    ds.EncapsulatedDocumentLength = len(pdf)
    ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    shared.complete(ds, context.PAGE)
    return ds


def _as_pdf(page: Image.Image, shared: ResultContext) -> bytes:
    written = io.BytesIO()
    made_at = shared.made_at.utctimetuple()
    page.save(
        written, "PDF", resolution=_DOTS_PER_INCH, quality=90, title="Hilum", creationDate=made_at, modDate=made_at
    )
    return written.getvalue()
