"""Numbers pass through processes by queues and pipes, with shared memory and a
lock, and are printed in order.

Usage: multi.py GATE
"""
import multiprocessing as mp
import os
import sys
import time

WORKERS = 3


def fail(words):
    os.write(1, f"bad: {words}\n".encode())
    os.kill(0, 9)


def square(jobs, results, shared):
    """Works off a queue and counts in shared memory below its lock."""
    while True:
        number = jobs.get()
        with shared.get_lock():
            shared.value += 1
        results.put((number, number * number, "x" * (number % 3000)))


def echo(end):
    """Answers over a pipe."""
    while True:
        end.send(end.recv() + 1)


def main():
    gate = sys.argv[1]
    mp.set_start_method("fork")
    jobs, results = mp.Queue(), mp.SimpleQueue()
    shared = mp.Value("Q", 0)
    here, there = mp.Pipe()
    for _ in range(WORKERS):
        mp.Process(target=square, args=(jobs, results, shared), daemon=True).start()
    mp.Process(target=echo, args=(there,), daemon=True).start()
    printed, number, waiting = 0, 0, {}
    while True:
        while os.path.exists(gate):
            time.sleep(0.05)
        while number < printed + 8:
            number += 1
            jobs.put(number)
        got, result, padding = results.get()
        if result != got * got or len(padding) != got % 3000 or got in waiting:
            fail(f"{got}: {result}")
        waiting[got] = result
        while printed + 1 in waiting:
            del waiting[printed + 1]
            here.send(printed)
            printed = here.recv()
            os.write(1, b"%d\n" % printed)
        if not 0 <= shared.value - printed <= 8:
            fail(f"shared {shared.value}, printed {printed}")


main()
