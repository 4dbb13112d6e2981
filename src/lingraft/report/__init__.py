"""The report of a run: everything that was measured and checked, on one HTML page that needs nothing beside it.

The page is made from the files of the run folder alone, so it can be written again at any time, and without torch.
Whatever it shows may come from a corpus or a hub: all of it is escaped, and the page runs no script.
"""

from lingraft.report.rebuild import compare_runs, rebuild_pages
from lingraft.report.run_page import write_report
from lingraft.report.study_page import write_study_report

__all__ = ["compare_runs", "rebuild_pages", "write_report", "write_study_report"]
