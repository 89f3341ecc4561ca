"""An S3 server on the loopback interface for tests: moto's, which can be told to refuse, throttle, fail and cut off."""

import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

ACCESS = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_EC2_METADATA_DISABLED": "true"}
_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} of the test</Message></Error>"
_STATUS = {"SlowDown": "503 Slow Down", "InternalError": "500 Internal Server Error", "AccessDenied": "403 Forbidden"}


class S3Server:
    """moto's S3, whose requests a test can let fail.

    Attributes:
        fault: called with the method and the path of each request; the code of an S3 error (``SlowDown``,
            ``InternalError``, ``AccessDenied``) lets it fail, None lets it pass
        requests: method and path of each request so far
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.fault: Callable[[str, str], str | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self._s3 = DomainDispatcherApplication(create_backend_app)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def uri(self, place: str) -> str:
        """``s3://`` and *place*, with the address of this server."""
        return f"s3://{place}?endpoint_override=127.0.0.1:{self._server.server_port}&scheme=http&region=us-east-1"

    def make_bucket(self, name: str) -> None:
        import boto3

        boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        ).create_bucket(Bucket=name)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        code = self.fault(method, path)
        if code is None:
            answer: Iterable[bytes] = self._s3(environ, start_response)
            return answer
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(_STATUS[code], [("Content-Type", "application/xml")])
        return [b"" if method == "HEAD" else _ERROR.format(code=code).encode()]


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server without buckets, for as long as the context lasts."""
    server = S3Server()
    try:
        yield server
    finally:
        server.close()
