"""The report: one self-contained HTML page from an evaluation, with plotly inside, so that it opens anywhere, offline.

The page lives in `report.html`; here it only gets its data. Knows nothing of how the evaluation was made.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from rheostat.training.evaluation import Evaluation

TEMPLATE = Path(__file__).with_name("report.html")
_PLOTLY, _DATA = "/*PLOTLY*/", "/*DATA*/"


def render(evaluation: Evaluation) -> str:
    """The page as HTML."""
    from plotly.offline import get_plotlyjs

    head, rest = TEMPLATE.read_text(encoding="utf-8").split(_PLOTLY)
    middle, tail = rest.split(_DATA)
    return "".join([head, get_plotlyjs(), middle, embedded_json(evaluation), tail])


def write_report(evaluation: Evaluation, path: Path) -> Path:
    """Write the page and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(evaluation), encoding="utf-8")
    return path


def embedded_json(evaluation: Evaluation) -> str:
    """JSON that may stand inside a script element: no `<` that could close it, whatever an action or data set is called."""
    return msgspec.json.encode(evaluation).decode().replace("<", "\\u003c")
