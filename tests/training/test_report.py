"""The report: one page that stands alone and cannot be broken by names."""

from __future__ import annotations

import json
import re

import msgspec

from rheostat.training.report import embedded_json, render, write_report
from tests.training.fitting import fitted


def test_page_stands_alone_and_states_the_verdict(tmp_path):
    page = write_report(fitted().evaluation, tmp_path / "new" / "report.html").read_text()
    own = page.replace(re.search(r"<script>.*?</script>", page, re.S)[0], "")
    assert "/*DATA*/" not in page
    assert "/*PLOTLY*/" not in page
    assert not re.search(r'(?:src|href)="', own)
    assert fitted().evaluation.reason in own


def test_the_page_fetches_nothing_and_knows_dark_and_narrow_screens():
    own = re.sub(r"<script>.*?</script>", "", render(fitted().evaluation), count=1, flags=re.S)
    assert "prefers-color-scheme: dark" in own
    assert "max-width: 559px" in own


def test_data_in_the_page_is_the_evaluation():
    page = render(fitted().evaluation)
    stored = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)[1]
    assert json.loads(stored) == json.loads(msgspec.json.encode(fitted().evaluation))


def test_names_cannot_close_the_script():
    hostile = msgspec.structs.replace(fitted().evaluation, bundle="</script><script>alert(1)</script>")
    assert "<" not in embedded_json(hostile)
    assert json.loads(embedded_json(hostile))["bundle"] == hostile.bundle
