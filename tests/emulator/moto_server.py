"""Starts moto's Kinesis on a free port of loopback.

Prints one line of JSON, {"address": "127.0.0.1", "port": N}, when it is ready, and serves until it is killed.
"""

import json
import threading

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
address, port = server.get_host_and_port()
print(json.dumps({"address": address, "port": port}), flush=True)
threading.Event().wait()
