"""A driver with prepared replies, which keeps what a rule asks for; its time passes as it is told to."""

import asyncio


class ScriptedDriver:
    """Replies to each call with the next of its replies, and raises those that are errors.

    Its time passes in its sleeps and, if they are to take any, in its calls.

    ``steps`` has, in order, the last part of each call's path, the seconds of each sleep, and ``reconnect``.
    """

    def __init__(self, replies, *, now=1000.0, seconds_of_a_call=0.0):
        self.left = list(replies)
        self.seconds_of_a_call = seconds_of_a_call
        self.steps = []
        self.time = now

    async def send(self, call):
        self.steps.append(call.path.rpartition("/")[2])
        self.time += self.seconds_of_a_call
        reply = self.left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    send_once = send

    async def sleep(self, seconds):
        self.steps.append(seconds)
        self.time += seconds

    async def reconnect(self):
        self.steps.append("reconnect")

    def now(self):
        return self.time

    @property
    def calls(self):
        """The steps without the sleeps."""
        return [step for step in self.steps if not isinstance(step, float)]

    @property
    def sleeps(self):
        """The seconds of each sleep."""
        return [step for step in self.steps if isinstance(step, float)]

    def run(self, rule):
        """Run a rule to its end; it has to use up all replies."""
        result = asyncio.run(rule)
        assert self.left == [], "fewer requests than expected"
        return result
