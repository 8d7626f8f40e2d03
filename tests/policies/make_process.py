"""Runs on a simulated process of reasoning."""

from rheostat.data.schema import Action
from rheostat.policies.base import Toolbox
from rheostat.policies.run import run_action
from rheostat.policies.simulated import OracleSteps, SimulatedBackend
from tests.policies import make


async def solve(spelling, process, *, n, checker=None):
    """The results of `n` different questions."""
    options = {"kind": "number", "toolbox": Toolbox(scorers={"prm": OracleSteps(process)})}
    backends = {"m": SimulatedBackend(process), "n": SimulatedBackend(checker or process)}
    action = Action.parse(spelling)
    return [await run_action(action, make.question(f"Question {at}?"), backends, seed=at * 1000, **options) for at in range(n)]


def accuracy(results, process):
    """The share that was right."""
    return sum(result.answer == process.right for result in results) / len(results)
