"""The pages of a report: pictures, tables, cautions, who made it, and the notice on every page.

The same findings give the same bytes: no clock, no random names, one font that travels with us.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image as Picture
from reportlab import rl_config
from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import CondPageBreak, Flowable, Image, Paragraph, SimpleDocTemplate, Spacer, Table

from node.encode.common import RESEARCH_NOTICE
from node.encode.material import Material
from node.encode.render.figures import Figure, figures
from node.encode.render.results import Row, detection_rows, fact_rows, general_lines, measurement_rows, notes
from node.notice import unsaid
from node.picture.text import BOLD, REGULAR, printable
from node.picture.window import Window

_REGULAR, _BOLD = "DejaVuSans", "DejaVuSans-Bold"
_INK, _ACCENT, _PALE, _LINE = HexColor(0x1D2733), HexColor(0x1F4E79), HexColor(0xF1F4F8), HexColor(0xC5CED8)
_ALERT, _ALERT_PALE = HexColor(0x8A4B00), HexColor(0xFFF4DC)
_MARGIN = 17 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_PADDING = 6  #: that reportlab has inside a page
_JPEG_QUALITY = 90
_SIGNS = {None: "■", "point": "✚", "line": "\u2571", "box": "□", "contour": "○"}


@cache
def _styles() -> dict[str, ParagraphStyle]:
    """Register the font, once, and return the styles of paragraphs by name."""
    for name, path in ((_REGULAR, REGULAR), (_BOLD, BOLD)):
        # ASCII keeps its codes, so the linter finds the notice in the page without a PDF reader
        pdfmetrics.registerFont(TTFont(name, str(path), asciiReadable=True))
    pdfmetrics.registerFontFamily(_REGULAR, normal=_REGULAR, bold=_BOLD, italic=_REGULAR, boldItalic=_BOLD)
    body = ParagraphStyle("body", fontName=_REGULAR, fontSize=8.5, leading=11.5, textColor=_INK)
    return {
        "body": body,
        "value": ParagraphStyle("value", body, alignment=TA_RIGHT),
        "head": ParagraphStyle("head", body, fontName=_BOLD, textColor=white),
        "small": ParagraphStyle("small", body, fontSize=7.5, leading=10),
        "title": ParagraphStyle("title", body, fontName=_BOLD, fontSize=17, leading=21, textColor=_ACCENT),
        "section": ParagraphStyle(
            "section",
            body,
            fontName=_BOLD,
            fontSize=11,
            leading=14,
            textColor=_ACCENT,
            spaceBefore=10,
            spaceAfter=4,
        ),
        "alert": ParagraphStyle("alert", body, textColor=_ALERT),
    }


def report_pdf(material: Material, window: Window | None, *, title: str) -> bytes:
    """Return the report of a job as a PDF.

    Parameters
    ----------
    window
        Of the source's header, in the unit of the image.
    """
    rl_config.useA85 = 0  # bytes as bytes: a fifth smaller
    styles, card = _styles(), material.job.card
    story: list[Flowable] = [Paragraph(_text(card.title), styles["title"]), Spacer(1, 4)]
    alert = " ".join(part for part in (RESEARCH_NOTICE, unsaid(card.warning, RESEARCH_NOTICE)) if part)
    story += [_alert(alert), Spacer(1, 6), _facts(fact_rows(material))]
    shown = figures(material, window)
    story += [Spacer(1, 8), *_figure(shown.overview)]
    story += _section("Results", [Paragraph(_text(line), styles["body"]) for line in general_lines(material)])
    if rows := measurement_rows(material):
        story += _section(
            "Measurements", [_table(("Structure", "Measurement", "Value"), rows, (0.36, 0.42, 0.22))]
        )
    if rows := detection_rows(material):
        heads = ("Detection", "Place", "Confidence", "Further results")
        story += _section("Detections", [_table(heads, rows, (0.28, 0.28, 0.14, 0.3))])
    if said := notes(material):
        story += _section(
            "Cautions and notes", [Paragraph("• " + _text(line), styles["body"]) for line in said]
        )
    if shown.details:
        story += _section("Images", [_gallery(shown.details)], 105 * mm)
        if shown.left_out:
            story.append(Paragraph(_text(shown.left_out), styles["small"]))
    about = [
        Paragraph(f"<b>{name}</b>: {_text(text)}", styles["small"]) for name, text in _about(material) if text
    ]
    story += _section("About this analysis", about, 45 * mm)
    target = io.BytesIO()
    document = SimpleDocTemplate(
        target,
        pagesize=A4,
        leftMargin=_MARGIN - _PADDING,
        rightMargin=_MARGIN - _PADDING,
        topMargin=15 * mm,
        bottomMargin=20 * mm,
        title=title,
        author=material.algorithm.maker,
        subject=RESEARCH_NOTICE,
        creator="radnode",
        lang="en-US",
        invariant=1,
    )
    footer = f"{material.algorithm.name} {material.algorithm.version}"
    document.build(story, canvasmaker=lambda *a, **k: _Pages(*a, footer=printable(footer), **k))
    return target.getvalue()


class _Pages(Canvas):  # type: ignore[misc]  # reportlab is not typed
    """Pages with the notice and their number of all pages, known only at the end."""

    def __init__(self, *arguments: Any, footer: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._footer = footer
        self._finished: list[dict[str, Any]] = []

    def showPage(self) -> None:
        self._finished.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, page in enumerate(self._finished, start=1):
            self.__dict__.update(page)
            self._draw_footer(number, len(self._finished))
            super().showPage()
        super().save()

    def _draw_footer(self, number: int, count: int) -> None:
        y = 12 * mm
        self.setStrokeColor(_LINE)
        self.line(_MARGIN, y + 11, A4[0] - _MARGIN, y + 11)
        self.setFillColor(_ALERT)
        self.setFont(_BOLD, 8)
        self.drawString(_MARGIN, y, RESEARCH_NOTICE)
        self.setFillColor(_INK)
        self.setFont(_REGULAR, 7.5)
        self.drawRightString(A4[0] - _MARGIN, y, f"Page {number} of {count}")
        self.drawCentredString(A4[0] / 2 + 12 * mm, y, self._footer[:64])


def _text(text: str) -> str:
    """Return text as a paragraph wants it: signs that the font has, nothing read as markup."""
    return escape(printable(text))


def _section(name: str, content: Sequence[Flowable], room: float = 30 * mm) -> list[Flowable]:
    """Return a heading with what belongs to it, on a page with room for the beginning."""
    return [CondPageBreak(room), Paragraph(name, _styles()["section"]), *content] if content else []


def _alert(text: str) -> Table:
    return Table(
        [[Paragraph(f"<b>{_text(text)}</b>", _styles()["alert"])]],
        colWidths=[_WIDTH],
        style=[("BACKGROUND", (0, 0), (-1, -1), _ALERT_PALE), ("LINEBEFORE", (0, 0), (0, -1), 3, _ALERT)],
    )


def _facts(rows: Sequence[tuple[str, str]]) -> Table:
    styles = _styles()
    cells = [
        [Paragraph(f"<b>{_text(name)}</b>", styles["small"]), Paragraph(_text(said), styles["small"])]
        for name, said in rows
    ]
    return Table(
        cells,
        colWidths=[0.2 * _WIDTH, 0.8 * _WIDTH],
        style=[("TOPPADDING", (0, 0), (-1, -1), 1), ("BOTTOMPADDING", (0, 0), (-1, -1), 1)],
    )


def _table(heads: Sequence[str], rows: Sequence[Row], shares: Sequence[float]) -> Table:
    """Return a table whose head repeats on every page; a group is named in its first row only."""
    styles = _styles()
    cells = [[Paragraph(head, styles["head"]) for head in heads]]
    commands: list[tuple[Any, ...]] = [
        ("BACKGROUND", (0, 0), (-1, 0), _ACCENT),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        ("LINEBELOW", (0, -1), (-1, -1), 0.5, _LINE),
    ]
    shaded = True
    for number, row in enumerate(rows, start=1):
        last = "value" if len(heads) == 3 else "body"
        cells.append(
            [
                Paragraph(_text(cell), styles[last if place == len(row.cells) - 1 else "body"])
                for place, cell in enumerate(row.cells)
            ]
        )
        if row.first:
            shaded = not shaded
            commands.append(("LINEABOVE", (0, number), (-1, number), 0.5, _LINE))
        if shaded:
            commands.append(("BACKGROUND", (0, number), (-1, number), _PALE))
        if row.first and row.colour_rgb:
            swatch = Color(*(channel / 255 for channel in row.colour_rgb))
            commands.append(("LINEBEFORE", (0, number), (0, number), 4, swatch))
    return Table(cells, colWidths=[share * _WIDTH for share in shares], repeatRows=1, style=commands)


def _figure(figure: Figure) -> list[Flowable]:
    return [_image(figure.picture, _WIDTH, 120 * mm), Spacer(1, 2), *_captions(figure)]


def _captions(figure: Figure) -> list[Paragraph]:
    """Return what the colours mean, and what is seen."""
    small = _styles()["small"]
    keys = "   ".join(
        f'<font color="#{bytes(entry.colour_rgb).hex()}">{_SIGNS[entry.sign]}</font>\u00a0'
        + _text(entry.label).replace(" ", "\u00a0")
        for entry in figure.keys
    )
    return [Paragraph(text, small) for text in (keys, _text(figure.caption)) if text]


def _gallery(details: Sequence[Figure]) -> Table:
    """Return pictures in two columns with their captions below."""
    column = _WIDTH / 2
    cells = [
        [
            _image(figure.picture, column - 8, 78 * mm),
            Spacer(1, 2),
            *_captions(figure),
        ]
        for figure in details
    ]
    rows = [
        [*cells[start : start + 2], *[""] * (2 - len(cells[start : start + 2]))]
        for start in range(0, len(cells), 2)
    ]
    return Table(
        rows,
        colWidths=[column, column],
        style=[("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)],
    )


def _image(picture: Picture.Image, width: float, height: float) -> Image:
    """Return a picture as large as there is room for."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    scale = min(width / picture.width, height / picture.height)
    return Image(io.BytesIO(data.getvalue()), picture.width * scale, picture.height * scale, hAlign="LEFT")


def _about(material: Material) -> list[tuple[str, str]]:
    card, algorithm = material.job.card, material.algorithm
    return [
        ("Algorithm", f"{algorithm.name}, version {algorithm.version}"),
        ("Answered for by", algorithm.maker),
        ("Intended use", card.intended_use),
        ("Warning", card.warning),
        ("Parameters", algorithm.parameters[:500]),
        ("Review", "Made automatically and not verified by a person."),
    ]
