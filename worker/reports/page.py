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
from worker.reports.style import WARNING

_SIZE, _DOTS_PER_INCH, _MARGIN = (1240, 1754), 150, 70
"""A4 in dots."""

_INK, _GRAY = (20, 24, 30), (95, 105, 115)
_CHARACTERS_A_LINE = 100
_WHOSE = (
    ("Patient ID", "PatientID"),
    ("Issuer", "IssuerOfPatientID"),
    ("Accession number", "AccessionNumber"),
    ("Study date", "StudyDate"),
)
"""Patient and study attributes on the page. The name is left out: the typeface has only Latin letters."""


def draw_page(identity: Dataset, texts: Sequence[str], picture: Image.Image | None) -> Image.Image:
    """Return the page, with the picture, if there is one, below the text."""
    page = Image.new("RGB", _SIZE, (255, 255, 255))
    draw = ImageDraw.Draw(page)
    width = _SIZE[0] - 2 * _MARGIN
    draw.text((_MARGIN, _MARGIN), "Hilum: infected lung in CT of the chest", font=style.font(36), fill=_INK)
    whose = ", ".join(f"{name} {identity.get(keyword)}" for name, keyword in _WHOSE if identity.get(keyword))
    draw.text((_MARGIN, _MARGIN + 52), whose or "No patient is named.", font=style.font(20), fill=_GRAY)
    y = _MARGIN + 110
    for text in texts:
        for line in textwrap.wrap(text, _CHARACTERS_A_LINE):
            draw.text((_MARGIN, y), line, font=style.font(21), fill=_INK)
            y += 29
        y += 12
    if picture:
        y += 12
        room = _SIZE[1] - _MARGIN - 50 - y
        scale = min(width / picture.width, room / picture.height)
        shown = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.LANCZOS)
        page.paste(shown, ((_SIZE[0] - shown.width) // 2, y))
    draw.text((_SIZE[0] // 2, _SIZE[1] - _MARGIN), WARNING, font=style.font(28), fill=_INK, anchor="mm")
    return page


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
