"""Starts moto's Kinesis and Firehose on a free port of loopback, behind TLS. SERVER_PEM holds its certificate and key.

Prints one line of JSON, {"address": "127.0.0.1", "port": N}, when it is ready, and serves until it is killed.
"""

import json
import os
import ssl
import tempfile

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
with tempfile.NamedTemporaryFile("w") as pem:
    pem.write(os.environ["SERVER_PEM"])
    pem.flush()
    tls.load_cert_chain(pem.name)

moto = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, moto, threaded=True, request_handler=MotoRequestHandler, ssl_context=tls)
print(json.dumps({"address": "127.0.0.1", "port": server.server_port}), flush=True)
server.serve_forever()
