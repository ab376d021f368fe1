"""Address: where a service is, its name in request keys, and whether a key may travel there."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from pipeline.collect.providers.provider import Origin
from pipeline.config.providers import PROVIDERS
from pipeline.errors import UsageError
from pipeline.redact import keep_secret

CHAT = "/chat/completions"
KEYLESS = "no-key-needed"
TOGETHER = "together"
TOGETHER_DOMAINS = ("together.ai", "together.xyz")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Place:
    """An address that was chosen for one role, and the variable whose key belongs there."""

    url: str | None
    """Without credentials, query and trailing slash; None: the provider's own."""
    said_by: str
    """What named it, for messages: a variable, or a key of the config."""
    key_variable: str | None
    """Environment variable of the key; None: no key is known for this address."""

    @property
    def origin(self) -> Origin:
        """Who named both, for messages."""
        return Origin(self.said_by, self.key_variable) if self.key_variable else Origin(self.said_by)


def place(role: str, provider: str, base_url: str | None = None, api_key_env: str | None = None) -> Place:
    """Where a role's requests go: `base_url` of its config, else the provider's variable, else its default.

    The provider's own key variable serves the provider's own address and the one that its variable names. Any other
    address needs `api_key_env`: a key goes to no host that it was not named for.
    """
    facts = PROVIDERS[provider]
    variable = facts.address_variable or ""
    if base_url is not None:
        own = facts.address is not None and host(base_url) == host(facts.address)
        key = api_key_env or (facts.key_variable if own else None)
        return Place(checked(base_url, f"{role}.base_url"), f"{role}.base_url", key)
    given = (os.environ.get(variable) or "").strip()
    return Place(checked(given, variable) if given else None, variable, api_key_env or facts.key_variable)


def checked(given: str, said_by: str) -> str:
    """An http(s) address without credentials, query and trailing slash. Raises UsageError for anything else, not showing it."""
    import httpx  # only here: most runs are sent nowhere

    url = given.strip().rstrip("/").removesuffix(CHAT).rstrip("/")
    try:
        parts = urlsplit(url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")
        # a port is read only when asked for, and what the client refuses must not be found out by the first request
        sound = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and bool(httpx.URL(bare))
    except (ValueError, httpx.InvalidURL):
        sound = False
    if not sound:
        raise UsageError(
            f"{said_by} is not an http(s) address: write it as https://host[:port], with a port from 1 to 65535"
        )
    return bare


def without_v1(url: str) -> str:
    """The address as the Together SDK wants it, which adds /v1 itself."""
    return url.removesuffix("/v1").rstrip("/")


def chat_url(url: str) -> str:
    """Where an OpenAI-style server takes chat requests: under its base address, which of a bare host is /v1."""
    return (url if urlsplit(url).path.strip("/") else f"{url}/v1") + CHAT


def service_name(url: str) -> str:
    """The name of a service in request keys: "together" for each of its own hosts, else the address in canonical form.

    Canonical: lower-case scheme and host, no default port, no /chat/completions, no trailing /v1, so that one server has
    one name however its address is written.
    """
    parts = urlsplit(url)
    name = (parts.hostname or "").rstrip(".")
    if any(name == domain or name.endswith(f".{domain}") for domain in TOGETHER_DOMAINS):
        return TOGETHER
    path = without_v1(parts.path.rstrip("/").removesuffix(CHAT).rstrip("/"))
    return SplitResult(parts.scheme.lower(), _host_and_port(parts), path, "", "").geturl()


def host(url: str) -> str:
    """Host and port, lower case, the port left out where it is the scheme's own."""
    return _host_and_port(urlsplit(url))


def _host_and_port(parts: SplitResult) -> str:
    name = parts.hostname or ""
    shown = f"[{name}]" if ":" in name else name
    return shown if parts.port in (None, _PORTS.get(parts.scheme.lower())) else f"{shown}:{parts.port}"


def key_for(found: Place, default: str, *, role: str, allow_insecure: bool) -> str | None:
    """The key to send to a place; None where it needs none. `default` is the address where the place names none.

    A loopback address needs no key. Any other does, and no key goes over plain http unless that is allowed.
    """
    url, variable = found.url or default, found.key_variable
    parts = urlsplit(url)
    plain = parts.scheme == "http" and not is_loopback(parts.hostname or "")
    key = (
        (os.environ.get(variable) or "").strip() if variable else ""
    )  # a file that it was read from ends in a line break
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"{variable} holds a character that no header can carry (a line break within it, or one beyond ASCII): copy the key again"
        )
    keep_secret(key)
    if is_loopback(parts.hostname or ""):
        return key or None
    if plain and not allow_insecure:
        raise UsageError(
            f"{found.said_by}={url}: the key would be sent unencrypted; use https, or pass --allow-insecure if that network is yours"
        )
    if not key and not (plain and variable is None):  # a server in a network of one's own may ask for none
        if variable is None:
            raise UsageError(
                f"{found.said_by}={url} needs its own key: name the environment variable that holds it under {role}.api_key_env"
            )
        hint = (
            "export it (see https://api.together.ai/settings/api-keys), or use `--provider embedded`, which needs no key"
            if variable == PROVIDERS["together"].key_variable
            else f"export the key for {host(url)}, or name another variable under {role}.api_key_env"
        )
        raise UsageError(f"{variable} is not set: {hint}")
    return key or None


def is_loopback(name: str) -> bool:
    """Whether a host is this machine: by its address, not by a name that looks like one."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
