# SPDX-License-Identifier: Apache-2.0
"""What stands before every request: a bound on its body, the token, headers that keep the page offline."""

import secrets
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse

OPEN = ("/health",)  # for probes, also without the token
COOKIE = "ditfuse_token"
# The browser itself refuses to ask any other machine: no fonts, no scripts from a CDN, no analytics.
OFFLINE = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'"
)
HEADERS = {
    "content-security-policy": OFFLINE,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def too_large(limit: int) -> str:
    return f"the request is over {limit / 1e6:.0f} megabytes; send fewer or smaller pictures"


class BodyLimit:
    """Answers 413 to bodies over `limit` bytes, whether they say their length or not."""

    def __init__(self, app: Callable, limit: int):
        self.app, self.limit = app, limit

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = Headers(scope=scope).get("content-length", "0")
        if not stated.isdigit() or int(stated) > self.limit:
            refusal = JSONResponse({"error": too_large(self.limit)}, 413, {"connection": "close"})
            await refusal(scope, receive, send)
            return
        await self.app(scope, self._counted(receive), send)

    def _counted(self, receive: Callable) -> Callable:
        seen = 0

        async def counted():
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise HTTPException(413, too_large(self.limit))
            return message

        return counted


class Offline:
    """Adds HEADERS to every answer."""

    def __init__(self, app: Callable):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def marked(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, marked if scope["type"] == "http" else send)


class TokenGate:
    """Answers 401 unless the request shows the token: `Authorization: Bearer TOKEN`, or the cookie that
    opening `/?token=TOKEN` in a browser sets.
    """

    def __init__(self, app: Callable, token: str):
        self.app, self.token = app, token

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] in OPEN or self._shown(Headers(scope=scope)):
            await self.app(scope, receive, send)
        elif self._equal(parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]):
            answer = RedirectResponse(scope["path"], 303)
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            await answer(scope, receive, send)
        else:
            told = "a token is needed: send the header Authorization: Bearer TOKEN, or open /?token=TOKEN"
            await JSONResponse({"error": told}, 401, {"www-authenticate": "Bearer"})(scope, receive, send)

    def _shown(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._equal(given):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._equal(cookie.value)

    def _equal(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())
