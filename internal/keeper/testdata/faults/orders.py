# A server of orders in SQLite with a clock of its own. /tick?us=N moves the clock
# and books what is due; /spoil?us=N takes an order whose amount is no number,
# which ends it when it is booked. Usage: orders.py DATABASE PORT
import http.server
import os
import sqlite3
import sys
import traceback
import urllib.parse

db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('PRAGMA synchronous = OFF')
db.execute('CREATE TABLE clock (us INTEGER, total INTEGER)')
db.execute('CREATE TABLE orders (at INTEGER, amount)')
db.execute('INSERT INTO clock VALUES (0, 0)')
db.execute('INSERT INTO orders VALUES (1000000, 7)')


def tick(us):
    db.execute('UPDATE clock SET us = us + ?', (us,))
    now = clock()
    for row, amount in db.execute('SELECT rowid, amount FROM orders WHERE at <= ?', (now,)).fetchall():
        db.execute('UPDATE clock SET total = total + ?', (int(amount),))
        db.execute('UPDATE orders SET at = ? WHERE rowid = ?', (now + 1000000, row))


def clock():
    return db.execute('SELECT us FROM clock').fetchone()[0]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize = -1  # an answer is one packet

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        us = int(urllib.parse.parse_qs(url.query)['us'][0])
        if url.path == '/spoil':
            db.execute("INSERT INTO orders VALUES (?, 'seven')", (clock() + us,))
        else:
            tick(us)
        text = b'%d\n' % clock()
        self.send_response(200)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


class Server(http.server.HTTPServer):
    def handle_error(self, request, address):
        if isinstance(sys.exc_info()[1], OSError):  # the client has gone
            return
        traceback.print_exc()
        os._exit(70)


Server(('127.0.0.1', int(sys.argv[2])), Handler).serve_forever()
