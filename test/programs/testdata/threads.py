"""Numbers pass from thread to thread and are printed in order at the end.

Usage: threads.py GATE
"""
import os
import queue
import sys
import threading
import time

STAGES = 6


class Stage(threading.Thread):
    """Takes numbers, proves them, keeps a running total, and hands them on."""

    def __init__(self, source, sink):
        super().__init__(daemon=True)
        self.source, self.sink = source, sink
        self.local = threading.local()
        self.total = 0

    def run(self):
        self.local.seen = 0
        while True:
            number, text, history = self.source.get()
            self.local.seen += 1
            self.total += number
            if number != self.local.seen or text != format(number, "x"):
                fail(f"{self.name}: {number} {text} after {self.local.seen}")
            if self.total != number * (number + 1) // 2:
                fail(f"{self.name}: total {self.total} at {number}")
            self.sink.put((number, format(number, "x"), history + [self.name]))


def fail(words):
    os.write(1, f"bad: {words}\n".encode())
    os._exit(3)


def main():
    gate = sys.argv[1]
    queues = [queue.Queue(maxsize=20) for _ in range(STAGES + 1)]
    stages = [Stage(queues[i], queues[i + 1]) for i in range(STAGES)]
    for stage in stages:
        stage.start()
    moved = threading.Condition()
    printed = 0

    def printer():
        nonlocal printed
        while True:
            number, _, history = queues[-1].get()
            if len(history) != STAGES:
                fail(f"history {history}")
            with moved:
                printed = number
                os.write(1, b"%d\n" % number)
                moved.notify()

    threading.Thread(target=printer, daemon=True).start()
    number = 0
    while True:
        while os.path.exists(gate):
            time.sleep(0.05)
        number += 1
        queues[0].put((number, format(number, "x"), []))
        with moved:
            while printed < number - 50:
                moved.wait(0.5)
        time.sleep(0.001)


main()
