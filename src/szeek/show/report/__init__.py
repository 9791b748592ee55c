"""report.html: what a run did and found, on one page."""

from szeek.show.report.field import FieldPicture, keep_field
from szeek.show.report.page import write_report

__all__ = ["FieldPicture", "keep_field", "write_report"]
