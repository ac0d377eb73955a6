"""Load for a memcached server on a socket: eight clients set, get, append and delete keys of a fixed
random sequence. Usage: cache_load.py SOCKET REQUESTS"""

import random
import socket
import sys
import threading
import time

CLIENTS = 8


def client(path, number, requests):
    connection = socket.socket(socket.AF_UNIX)
    for _ in range(1000):
        try:
            connection.connect(path)
            break
        except OSError:
            time.sleep(0.01)
    stream = connection.makefile("rwb")
    rng = random.Random(number)
    for _ in range(requests // CLIENTS):
        key = b"key:%d" % rng.randrange(20000)
        kind = rng.random()
        if kind < 0.55:
            stream.write(b"get %s\r\n" % key)
        elif kind < 0.9:
            value = b"v" * int(rng.lognormvariate(5, 1.2) + 1)
            stream.write(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value))
        elif kind < 0.95:
            stream.write(b"append %s 0 0 4\r\nmore\r\n" % key)
        else:
            stream.write(b"delete %s\r\n" % key)
        stream.flush()
        line = stream.readline()
        if line.startswith(b"VALUE"):
            stream.read(int(line.split()[3]) + 2)
            stream.readline()
    connection.close()


def main():
    path, requests = sys.argv[1], int(sys.argv[2])
    threads = [
        threading.Thread(target=client, args=(path, number, requests)) for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
