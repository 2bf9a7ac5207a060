"""A Falcon app on cheroot, a server that the package does not know: one thread serves all its requests."""

from __future__ import annotations

import sys
from typing import Any

import falcon
from cheroot import wsgi


class Greeting:
    def on_get(self, request: Any, response: Any, name: str) -> None:
        response.text = f"hello {name}"


def main() -> None:
    app = falcon.App()
    app.add_route("/hello/{name}", Greeting())
    wsgi.Server(("127.0.0.1", int(sys.argv[1])), app, numthreads=1).start()


main()
