"""Proxy: the one the environment names for an address, and the packages it needs."""

from __future__ import annotations

import importlib.util
import urllib.request
from urllib.parse import urlsplit

from pipeline.collect.providers.address import is_loopback
from pipeline.errors import UsageError
from pipeline.redact import keep_address_secret

VARIABLES = "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"
SOCKS = ("socks4", "socks4a", "socks5", "socks5h")


def proxy_for(address: str) -> str | None:
    """The proxy that the environment names for an address (HTTPS_PROXY, ALL_PROXY, NO_PROXY); never one for this machine's own."""
    parts = urlsplit(address)
    if is_loopback(parts.hostname or ""):
        return None  # regardless of NO_PROXY
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    keep_address_secret(found or "")
    if not found or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return found if "://" in found else f"http://{found}"


def usable_proxy(address: str, *, batch: bool = False) -> str | None:
    """`proxy_for`, checked. Raises UsageError for SOCKS without its package, and for anything that is not a proxy.

    The chat API is asked through aiohttp, the batch API through httpx; each has a package of its own for SOCKS.
    """
    proxy = proxy_for(address)
    if proxy is None:
        return None
    scheme = urlsplit(proxy).scheme.lower()
    if scheme in SOCKS:
        module, package = ("socksio", "httpx[socks]") if batch else ("aiohttp_socks", "aiohttp-socks")
        if importlib.util.find_spec(module) is None:
            raise UsageError(
                f"{shown(proxy)} is a SOCKS proxy, which needs a package: pip install '{package}', or name an HTTP proxy (see {VARIABLES})"
            )
    elif scheme not in ("http", "https"):
        raise UsageError(f"{shown(proxy)} is not a usable proxy: write it as http://host:port (see {VARIABLES})")
    return proxy


def shown(proxy: str) -> str:
    """A proxy's address without user name and password."""
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
