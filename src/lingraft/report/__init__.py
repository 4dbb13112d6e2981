"""The report of a run: all measurements and checks on one self-contained HTML page.

The page is built from the files of the run folder only, so `lingraft report` can write it again at
any time, without torch. Text on the page may come from a corpus or the Hub, so all of it is
escaped, and the page runs no script.
"""

from lingraft.report.rebuild import compare_runs, rebuild_pages
from lingraft.report.run_page import write_report
from lingraft.report.study_page import write_study_report

__all__ = ["compare_runs", "rebuild_pages", "write_report", "write_study_report"]
