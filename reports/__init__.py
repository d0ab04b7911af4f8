"""Reports: records in, one report out, rendered as HTML, Markdown and JSON."""

from robustexit.reports.as_json import to_json
from robustexit.reports.build import build_report, render_report, write_report
from robustexit.reports.html import to_html
from robustexit.reports.markdown import to_markdown
from robustexit.reports.model import REPORT_SCHEMA, REPORT_VERSION, Report

__all__ = [
    "REPORT_SCHEMA",
    "REPORT_VERSION",
    "Report",
    "build_report",
    "render_report",
    "to_html",
    "to_json",
    "to_markdown",
    "write_report",
]
