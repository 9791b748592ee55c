"""report.html: what a run did and found, on one page."""

from szeek.show.report.field import keep_field
from szeek.show.report.page import write_report

__all__ = ["keep_field", "write_report"]
