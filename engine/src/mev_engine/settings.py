"""Settings of one engine process: a TOML file, overridden by the environment, checked at the door.

Every problem is reported at once, in words that name the file (or variable), the key, the value
and what is allowed. Types are strict: `chain_id = "1"` is a mistake, not a number.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mev_engine.redact import redact_url

ENV_PREFIX = "MEV_ENGINE__"
ChainName = Literal["ethereum", "polygon", "arbitrum"]


class SettingsError(Exception):
    """The settings cannot be used. The text has one line a problem and is fit to show as it is."""


def _address(value: str) -> str:
    """Lower-case form of an address; a mixed-case one must carry the right EIP-55 checksum."""
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        raise ValueError("must be an address: 0x and 40 hex digits")
    if value[2:] not in (value[2:].lower(), value[2:].upper()):
        from eth_utils.address import to_checksum_address  # noqa: PLC0415  (slow import, seldom needed)

        right = to_checksum_address(value.lower())
        if value != right:
            raise ValueError(
                f"has a wrong EIP-55 checksum: a digit may be mistyped (these digits give {right})"
            )
    return value.lower()


def _endpoint(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or re.search(r"\s", value):
        raise ValueError("must be a WebSocket URL: ws://host:port or wss://host/path")
    if parts.port == 0:  # reading .port also refuses what is no number or above 65535
        raise ValueError("must have a port from 1 to 65535")
    return value


Address = Annotated[str, AfterValidator(_address)]


def _host_and_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if (
        not host
        or re.search(r"\s", host)
        or not re.fullmatch(r"\d{1,5}", port)
        or not 1 <= int(port) <= 65535
    ):
        raise ValueError("must be host:port, such as 10.77.0.2:6379")
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint)]
HostAndPort = Annotated[str, AfterValidator(_host_and_port)]
Port = Annotated[int, Field(ge=1, le=65535)]
NonEmpty = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A table of the file: unknown keys are errors, types are exact, values never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ChainSettings(Section):
    name: ChainName
    chain_id: Annotated[int, Field(ge=1)]
    endpoints: Annotated[list[Endpoint], Field(min_length=1)]
    max_catchup_blocks: Annotated[int, Field(ge=0, le=100_000)] = 256
    health_interval: Annotated[int, Field(ge=1, le=3600)] = 30
    max_silence: Annotated[int, Field(ge=0, le=86_400)] = 60  # seconds; five of Ethereum's blocks

    @model_validator(mode="after")
    def _distinct(self) -> ChainSettings:
        if len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError("endpoints names the same URL twice; name each endpoint once")
        return self


class FactorySettings(Section):
    address: Address
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]
    family: Literal["uniswap_v2", "uniswap_v3"] = "uniswap_v2"
    fee_bps: Annotated[int, Field(ge=0, lt=10_000)] = 30
    """Of pairs. A V3 pool says its own."""

    @model_validator(mode="after")
    def _fee_is_the_pools_own(self) -> FactorySettings:
        if self.family == "uniswap_v3" and "fee_bps" in self.model_fields_set:
            raise ValueError(
                f"fee_bps = {self.fee_bps} is given and family is uniswap_v3, whose pools each have a fee of "
                "their own; leave fee_bps out"
            )
        return self


class MarketSettings(Section):
    base_tokens: Annotated[list[Address], Field(min_length=1)]
    wrapped_native: Address
    max_hops: Annotated[int, Field(ge=2, le=4)] = 4
    pools_file: str = ""
    factories: list[FactorySettings] = []

    @model_validator(mode="after")
    def _has_pools(self) -> MarketSettings:
        if not self.pools_file and not self.factories:
            raise ValueError("names no pools: give at least one [[market.factories]] or a pools_file")
        if len(set(self.base_tokens)) != len(self.base_tokens):
            raise ValueError("base_tokens names the same token twice; name each token once")
        return self


class DetectSettings(Section):
    min_profit_wei: Annotated[int, Field(ge=0)] = 0
    priority_fee_wei: Annotated[int, Field(ge=0)] = 1_000_000_000
    gas_per_cycle: Annotated[int, Field(ge=0, le=30_000_000)] = 60_000
    gas_per_hop: Annotated[int, Field(ge=0, le=30_000_000)] = 75_000


class _WithPassword(Section):
    """`password_file`, or else the file that systemd's LoadCredential= put into place."""

    credential: ClassVar[str]
    password_file: str = ""

    def password(self) -> str | None:
        """The secret, read at each connection. A `password_file` that was rotated is so picked up; what
        LoadCredential= gave is a copy as of the start, so after rotating it the unit is restarted.

        None where no file is named and none was handed over: the server then decides (peer, trust).
        """
        path = self._password_path()
        if path is None:
            return None
        try:
            return path.read_text().rstrip("\n")
        except OSError as error:
            raise SettingsError(
                f"{self.credential}: cannot read {path}: {error.strerror}; "
                f"set password_file to a file that this user can read"
            ) from error

    def _password_path(self) -> Path | None:
        if self.password_file:
            return Path(self.password_file)
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if directory and (path := Path(directory) / self.credential).exists():
            return path
        return None


class DatabaseSettings(_WithPassword):
    credential: ClassVar[str] = "database_password"
    host: NonEmpty = "127.0.0.1"
    port: Port = 5432
    name: NonEmpty = "mev_infrastructure"
    user: NonEmpty = "mev_engine"
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    keep_months: Annotated[int, Field(ge=0, le=1200)] = 24
    """Months of opportunities in the table; older ones are detached, their rows kept. 0: all stay."""


class RedisSettings(_WithPassword):
    credential: ClassVar[str] = "redis_password"
    host: NonEmpty = "127.0.0.1"
    port: Port = 6379
    cluster: list[HostAndPort] = []
    """Members of a Redis Cluster, to ask first who has what; `host` and `port` are not used then."""
    tls: bool = False
    ca_file: str = ""
    """The authority that signed the servers' certificates; empty: those that the system trusts."""
    username: NonEmpty = "engine"
    stream: NonEmpty = "mev:opportunities"
    stream_maxlen: Annotated[int, Field(ge=1)] = 100_000

    @model_validator(mode="after")
    def _authority_is_used(self) -> RedisSettings:
        if self.ca_file and not self.tls:
            raise ValueError("ca_file is given and tls is false; set tls = true, or leave ca_file out")
        return self

    def where(self) -> list[tuple[str, int]]:
        """Addresses to ask first."""
        if not self.cluster:
            return [(self.host, self.port)]
        return [(host, int(port)) for host, port in (member.rsplit(":", 1) for member in self.cluster)]


class MetricsSettings(Section):
    host: NonEmpty = "127.0.0.1"
    port: Port = 9090


class StateSettings(Section):
    directory: str = ""

    def path(self) -> Path:
        """Where the checkpoint lives: the setting, or else what systemd's StateDirectory= gave."""
        directory = self.directory or os.environ.get("STATE_DIRECTORY", "")
        if not directory:
            raise SettingsError(
                "state.directory is not set and $STATE_DIRECTORY is empty: "
                "set [state] directory to a directory that this user can write"
            )
        return Path(directory)


class Settings(Section):
    chain: ChainSettings
    market: MarketSettings
    detect: DetectSettings = DetectSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    metrics: MetricsSettings = MetricsSettings()
    state: StateSettings = StateSettings()


def load(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the TOML file at `path`, overridden by MEV_ENGINE__SECTION__KEY variables.

    Raises SettingsError, with every problem that was found.
    """
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}; check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is not valid TOML: {error}") from error
    sources = _override(data, os.environ if environ is None else environ)
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        lines = [_explain(problem, path, sources) for problem in error.errors(include_url=False)]
        raise SettingsError("\n".join(lines)) from error


def _override(data: dict[str, Any], environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Put the environment's values into `data`; returns which variable set which key."""
    sources: dict[tuple[str, ...], str] = {}
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX):
            continue
        keys = tuple(variable[len(ENV_PREFIX) :].lower().split("__"))
        table = data
        for key in keys[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise SettingsError(f"environment {variable}: {key} is a value, not a table of settings")
        table[keys[-1]] = _typed(environ[variable])
        sources[keys] = variable
    return sources


def _typed(text: str) -> Any:
    """The value as TOML reads it (5, true, ["a"]), or the text itself where it is no TOML."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(problem: Any, path: Path, sources: Mapping[tuple[str, ...], str]) -> str:
    """One problem in plain words: where, which key, which value, what is allowed."""
    location = tuple(problem["loc"])
    keys = tuple(str(part) for part in location)
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    variable = next((name for known, name in sources.items() if known == keys[: len(known)]), None)
    where = f"environment {variable}" if variable else str(path)
    kind = problem["type"]
    if kind == "missing":
        return f"{where}: {key} is missing; it has no default, so set it"
    if kind == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"{where}: {key} = {_show(location, problem['input'])} is not a known setting; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "value_error" and isinstance(problem["input"], dict):
        return f"{where}: {key}: {message}"
    return f"{where}: {key} = {_show(location, problem['input'])} is not allowed: {message}"


def _show(location: tuple[Any, ...], value: Any) -> str:
    """The value for people; an endpoint's path and query are keys to someone's account: not shown."""
    if "endpoints" in location and isinstance(value, str):
        return repr(redact_url(value))
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
        model = next(a for a in inner if issubclass(a, BaseModel))
    return sorted(model.model_fields)
