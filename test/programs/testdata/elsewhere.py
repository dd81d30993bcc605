# Counts in memory, and says so in data/count, with what it drew when it began.
import os
import time

drawn = os.urandom(8).hex()
count = open("data/count", "w")
i = 0
while True:
    i += 1
    count.seek(0)
    count.write("%s %d\n" % (drawn, i))
    count.flush()
    time.sleep(0.02)
