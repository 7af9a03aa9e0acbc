"""Requests come on several threads; one thread answers them, the newest alone."""

import queue
import threading
from collections.abc import Callable


class Superseded(Exception):
    """There is newer input, or Stop was pressed, or the explorer was closed."""


class Worker:
    """`answer` is called after `ask`; it looks at `newer` and `stopped` to know when to give up."""

    def __init__(self, answer: Callable[[], None]):
        self._answer = answer
        self._wanted: queue.Queue = queue.Queue()
        self.asked = self.current = 0
        self.stopped = self.closed = False
        self.thread = threading.Thread(target=self._work, daemon=True)

    def ask(self) -> None:
        self.asked += 1
        if not self.closed:
            self._wanted.put(self.asked)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether everything that was asked for is answered within `timeout` seconds."""
        answered = self._wanted.all_tasks_done
        with answered:
            return answered.wait_for(lambda: not self._wanted.unfinished_tasks, timeout)

    def close(self) -> None:
        self.closed = True
        self._wanted.put(None)

    def _work(self) -> None:
        for number in iter(self._wanted.get, None):
            if number == self.asked and not self.closed:
                self.current, self.stopped = number, False
                self._answer()
            self._wanted.task_done()
