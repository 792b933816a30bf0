"""A plugin of pytest: writes what became of each test as a line of its own to the file $WARREN_CASES."""

import os

lines = open(os.environ["WARREN_CASES"], "w", buffering=1)


def why(report):
    """The last line that says something, without tabs."""
    longrepr = report.longrepr
    if isinstance(longrepr, tuple):
        return longrepr[2]
    crash = getattr(longrepr, "reprcrash", None)
    text = crash.message if crash else str(longrepr or "")
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(said[:3]).replace("\t", " ")[:300]


def pytest_runtest_logreport(report):
    """A test passes by its call; a failure to set it up or to clean up after it is one more case."""
    if report.outcome == "rerun" or type(report).__name__ == "SubtestReport":
        return
    if report.when == "call" or report.outcome != "passed":
        name = report.nodeid if report.when == "call" else f"{report.nodeid} ({report.when})"
        if report.outcome == "skipped":
            name = report.nodeid
        print(report.outcome, name, why(report) if report.outcome != "passed" else "", sep="\t", file=lines)


def pytest_collectreport(report):
    """A file that cannot be imported is a case that fails."""
    if report.failed:
        print("failed", f"{report.nodeid} (import)", why(report), sep="\t", file=lines)
