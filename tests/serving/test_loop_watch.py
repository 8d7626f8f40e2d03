import asyncio
import time

from rheostat.serving.loop_watch import EVERY_S, LoopWatch
from rheostat.serving.metrics import Metrics


async def test_what_holds_the_loop_up_is_seen():
    metrics = Metrics()
    watch = asyncio.create_task(LoopWatch(metrics).run())
    await asyncio.sleep(EVERY_S / 2)
    time.sleep(0.3)  # noqa: ASYNC251 - the stall that is to be seen
    await asyncio.sleep(2 * EVERY_S)
    watch.cancel()
    counted = metrics.registry.get_sample_value
    assert counted("rheostat_loop_lag_seconds_count") - counted("rheostat_loop_lag_seconds_bucket", {"le": "0.25"}) >= 1
