"""A month of a plant on real servers, with what can go wrong in it, held against what is known.

::

    story     what befalls the simulated plant, and when
    runner    the process that runs the flows: it can be killed at any moment
    servers   the stack that it runs on, and how its processes are killed
    schedule  what the worker of the stack does by itself, and how it is killed
    receiver  the webhook that is told of alarms
    operator  what people do: answer alarms, retrain, promote, roll back
    record    what was seen as it went by
    checks    what must be true at the end
"""
