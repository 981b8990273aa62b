"""HTTP to a serving engine: timeouts, retries with backoff, and errors that say what to do."""

import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from vlm_eagle.errors import UserError
from vlm_eagle.packages import require

Result = TypeVar("Result")
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
LONGEST_PAUSE = 60.0  # seconds; a server that asks for more is asked again after these


class Refused(UserError):
    """The server understood the request and will not serve it (an image for a text model, a prompt too long). `status` is
    its HTTP status; asking again would not help."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Unanswered(UserError):
    """No usable answer this time: no connection, a timeout, a server error, a body cut short. Asking again may help, but not
    before `wait` seconds, if the server asked for that; at most `LONGEST_PAUSE`."""

    def __init__(self, message: str, wait: float = 0.0):
        super().__init__(message)
        self.wait = wait


class EngineHttp:
    """A client of one server.

    Args:
        url: its address, with or without /v1.
        timeout: seconds one answer may take.
        tries: how often `retry` asks before it gives up.
        backoff: seconds before the second try; doubled before each further one.
        connections: most requests under way at a time, from as many threads.
        key: sent as a bearer token, for servers that want one.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 300.0,
        tries: int = 4,
        backoff: float = 1.0,
        connections: int = 100,
        key: str | None = None,
    ):
        require("httpx", user="Talking to a server", extra="engines")
        import httpx

        if not url.startswith(("http://", "https://")):
            raise UserError(f"{url!r} is not a server's address. Give one such as http://localhost:8000.")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.tries, self.backoff, self._httpx = tries, backoff, httpx
        self._client = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(timeout, connect=10.0),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"Authorization": f"Bearer {key}"} if key else None,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def retry(self, attempt: Callable[[], Result]) -> Result:
        """The result of `attempt`, called again with growing pauses, or those that the server asks for, while it raises
        `Unanswered`.

        Raises:
            Unanswered: the last attempt's.
        """
        for number in range(self.tries - 1):
            try:
                return attempt()
            except Unanswered as error:
                time.sleep(max(self.backoff * 2**number, error.wait))
        return attempt()

    def text(self, path: str, body: dict[str, Any] | None = None) -> str:
        """GET, or POST when there is a body; asked once.

        Raises:
            Refused: status 4xx.
            Unanswered: anything that may be different next time.
        """
        try:
            response = self._client.post(path, json=body) if body is not None else self._client.get(path)
        except self._httpx.ConnectError as error:
            raise Unanswered(f"No server answers at {self.url} ({error}). Start one, or check the address.") from None
        except self._httpx.TimeoutException:
            raise Unanswered(f"{self.url}{path} did not answer in time. Raise --timeout, or read the server's log.") from None
        except self._httpx.HTTPError as error:
            raise Unanswered(f"{self.url}{path}: the connection broke off ({error}). Look at the server's log.") from None
        status = response.status_code
        if status < 300:
            return response.text
        said = " ".join(response.text.split())[:300]
        if status in _TRY_AGAIN:
            wait = retry_after(response.headers.get("Retry-After"))
            raise Unanswered(f"{self.url}{path} failed with status {status}: {said}. Look at the server's log.", wait)
        raise Refused(f"{self.url}{path} refused the request with status {status}: {said}", status)

    def json(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object at `path`; arguments and errors as in `text`."""
        answer = self.text(path, body)
        try:
            value = json.loads(answer)
        except ValueError as error:
            raise Unanswered(f"{self.url}{path} sent broken JSON ({error}). Look at the server's log.") from None
        if not isinstance(value, dict):
            raise Refused(f"{self.url}{path} sent a {type(value).__name__} where an object was expected. Is it an engine?", 200)
        return value


def retry_after(header: str | None) -> float:
    """Seconds to wait, 0 to `LONGEST_PAUSE`, by a `Retry-After` header, which holds seconds or a date (RFC 9110, 10.2.3); 0
    for what is neither."""
    header = (header or "").strip()
    if header.isascii() and header.isdigit():
        return min(float(header), LONGEST_PAUSE)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    date = date.replace(tzinfo=date.tzinfo or timezone.utc)
    return min(max((date - datetime.now(timezone.utc)).total_seconds(), 0.0), LONGEST_PAUSE)
