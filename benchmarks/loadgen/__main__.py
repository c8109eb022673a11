"""`python -m benchmarks.loadgen`: read a spec from stdin, run it, print the result."""

import asyncio
import gc
import sys

import msgspec
import uvloop

from benchmarks.loadgen.loads import run
from benchmarks.loadgen.spec import LoadSpec

spec = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadSpec)
# A collection in the middle of a measurement would be taken for the target's latency.
gc.disable()
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    sys.stdout.buffer.write(msgspec.json.encode(runner.run(run(spec))))
