# SPDX-License-Identifier: Apache-2.0
"""A control socket without a node behind it: answers verbs as a test tells it, and remembers what was asked."""
import http.server
import json
import pathlib
import socketserver
import threading


class FakeControl:
    """`answers` maps a verb to a JSON object, to (status, object), to raw bytes, or to a function of the
    arguments that gives one of those. A list is answered item by item, the last one for ever."""

    def __init__(self, data, answers):
        self.path = pathlib.Path(data) / "control"
        self.answers = answers
        self.asked = []
        control = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # pylint: disable=invalid-name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path.startswith("/v1/")
                verb = self.path[len("/v1/"):]
                arguments = json.loads(body) if body else {}
                status, text = control.answer(verb, arguments)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):  # pylint: disable=arguments-differ
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

            def get_request(self):
                connection, _ = super().get_request()
                return connection, ("unix", 0)

        self.server = Server(str(self.path), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def answer(self, verb, arguments):
        self.asked.append((verb, arguments))
        answer = self.answers.get(verb, (404, {"error": "there is no such verb", "code": "verb"}))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(arguments)
        if isinstance(answer, bytes):
            return 200, answer
        status, value = answer if isinstance(answer, tuple) else (200, answer)
        return status, json.dumps(value).encode() + b"\n"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.path.unlink(missing_ok=True)
