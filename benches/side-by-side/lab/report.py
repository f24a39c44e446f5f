"""Numbers and tables in Markdown."""

import statistics
import sys
from pathlib import Path

median = statistics.median


def percentile(values, percent):
    """The smallest value that so many percent of them do not exceed."""
    ordered = sorted(values)
    place = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(place) - 1)]


def slope(points):
    """Least squares: (what it costs at zero, what each unit more costs)."""
    xs, ys = zip(*points)
    fit = statistics.linear_regression(xs, ys)
    return fit.intercept, fit.slope


def command():
    """What was typed, for the table that it made."""
    path = Path(sys.argv[0]).resolve()
    root = Path(__file__).resolve().parents[3]
    return " ".join([str(path.relative_to(root)), *sys.argv[1:]])


def heading(title, *notes):
    print(f"\n### {title}\n")
    for note in notes:
        print(f"{note}\n")


def table(columns, rows):
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)


def bar(value, most, width=40):
    return "#" * round(width * value / most)
