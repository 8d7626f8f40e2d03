"""A `rheostat` block for tests of answers."""

from rheostat.data.ledger import Ledger
from rheostat.serving.shapes import Told

TOLD = Told(
    decision_id="d-1",
    action="pocket/cot@256",
    tier="balanced",
    rule="average",
    target=0.8,
    p_correct=0.9,
    p_interval=(0.8, 0.95),
    feasible=True,
    explored=False,
    cost_usd=0.0,
    ledger=Ledger(completion=2),
    samples=1,
    agreement=None,
    stop_reason="stop",
    degraded=None,
    bundle="1",
    alternatives={},
)
