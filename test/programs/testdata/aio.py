"""A ledger over HTTP by asyncio, with tasks, queues and an executor on the side.

Usage: aio.py PORT
"""
import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

MASK = 0xFFFFFFFF


class Ledger:
    def __init__(self):
        self.n = 0
        self.slots = [0] * 4096

    def step(self):
        self.n += 1
        slot = (self.n * 2654435761 & MASK) >> 20
        self.slots[slot] = (self.slots[slot] * 31 + self.n) & MASK

    def digest(self):
        h = 2166136261
        for value in self.slots:
            h = ((h ^ value) * 16777619) & MASK
        return h


ledger = Ledger()
jobs = None
resting = False


async def work():
    while True:
        done = await jobs.get()
        ledger.step()
        done.set_result(ledger.n)


async def answer(method, target):
    global resting
    url = urlsplit(target)
    if url.path == "/state":
        return 200, f"{ledger.n} {ledger.digest()}"
    resting = url.path == "/rest"
    if resting:
        return 200, "resting"
    want = int(parse_qs(url.query)["n"][0])
    if want != ledger.n + 1:
        return 409, f"at {ledger.n}, not before {want}"
    done = asyncio.get_running_loop().create_future()
    await jobs.put(done)
    return 200, str(await done)


async def serve(reader, writer):
    try:
        while line := await reader.readline():
            method, target, _ = line.decode().split()
            while (await reader.readline()).strip():
                pass
            status, body = await answer(method, target)
            body = body.encode()
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def beat():
    loop = asyncio.get_running_loop()
    beats = 0
    while True:
        await asyncio.sleep(0.01)
        beats += 1
        if beats % 10 == 0 and not resting:
            total = await loop.run_in_executor(None, sum, range(1000))
            assert total == 499500, total


async def main():
    global jobs
    jobs = asyncio.Queue()
    tasks = [asyncio.create_task(work()), asyncio.create_task(beat())]
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    async with server:
        await asyncio.gather(server.serve_forever(), *tasks)


asyncio.run(main())
