"""Running code that nobody vouches for: cells with bounds, and exams whose verdict the examined code cannot touch.

`cell` is the inside of the fence, `host` the outside, `exam` grades a solution against tests with one cell for each.
"""

from rheostat.data.sandbox.exam import Verdict, run_cases, run_tests
from rheostat.data.sandbox.host import Isolation, Ran, Sandbox
from rheostat.data.sandbox.limits import Limits

__all__ = ["Isolation", "Limits", "Ran", "Sandbox", "Verdict", "run_cases", "run_tests"]
