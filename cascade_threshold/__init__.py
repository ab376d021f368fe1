"""The runtime: one reply of the cheap model in, one decision out. Standard library only.

policy = cascade_threshold.load("policy.json")
decision = policy.decide(completion)        # accept or escalate, with the reason
"""

from cascade_threshold.cascade import Cascade
from cascade_threshold.policy import Decision, Policy, load
from cascade_threshold.stream import collect as collect_stream

__version__ = "0.1.0"
__all__ = ["Cascade", "Decision", "Policy", "__version__", "collect_stream", "load"]
