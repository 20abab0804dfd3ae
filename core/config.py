"""The settings: every key with its type, default, environment name and one line of what it does.

One rule: a wrong line is one sentence and the rest works. The environment wins over the file, and the file over the
default.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from core.domain.budget import Budget
from core.domain.errors import ConfigError, NotFoundError
from core.domain.workspaces import DEFAULT_DISK_GB, MIN_DISK_GB
from core.home import Home

PREFIX = "UNDERSTUDY_"
_LIMITS = Budget()


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    database_url: Annotated[
        str, Meta(description="Where the journal is kept: empty is SQLite in the home, or postgresql://... .")
    ] = ""
    operations_url: Annotated[
        str, Meta(description="Where running operations are kept: empty is SQLite in the home, or postgresql://... .")
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="How much the engine writes into its log.")
    ] = "info"

    def __repr__(self) -> str:  # a database's URL may carry a password
        return f"EngineSettings(log_level={self.log_level!r})"


class BudgetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a new home; `understudy budget set` decides from then on."""

    usd_per_hour: Annotated[
        float, Meta(ge=0, description="First limit of what all machines together cost an hour.")
    ] = _LIMITS.usd_per_hour
    usd_per_month: Annotated[float, Meta(ge=0, description="First limit of what a calendar month (UTC) may cost.")] = (
        _LIMITS.usd_per_month
    )
    machines: Annotated[int, Meta(ge=0, description="First limit of how many machines are rented at once.")] = (
        _LIMITS.machines
    )


class VastSettings(msgspec.Struct, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Whether Vast.ai is used at all.")] = True
    base_url: Annotated[
        str, Meta(description="Another address for its API: empty is the real one; refused in a lab home.")
    ] = ""
    poll_s: Annotated[float, Meta(ge=5, description="Seconds between two looks at the market.")] = 30.0
    account_poll_s: Annotated[float, Meta(ge=1, description="Seconds between two listings of the account.")] = 6.0


class RentSettings(msgspec.Struct, frozen=True, kw_only=True):
    image: Annotated[str, Meta(description="Container image of a new machine: empty is the provider's default.")] = ""
    disk_gb: Annotated[float, Meta(ge=MIN_DISK_GB, description="Disk of a new machine in GB.")] = DEFAULT_DISK_GB
    boot_timeout_s: Annotated[
        float, Meta(gt=0, description="A machine that does not run after so many seconds is given back.")
    ] = 600.0
    ssh_timeout_s: Annotated[
        float, Meta(gt=0, description="A machine that runs and does not answer SSH for so long is given back.")
    ] = 180.0
    disk_tolerance: Annotated[
        float, Meta(ge=0, le=1, description="The part of the advertised disk and its speed that may be missing.")
    ] = 0.3
    net_tolerance: Annotated[
        float, Meta(ge=0, le=1, description="The part of the advertised network speed that may be missing.")
    ] = 0.7
    judge_network: Annotated[bool, Meta(description="Whether a new machine's network speed is measured at all.")] = True
    attempts: Annotated[int, Meta(ge=1, le=20, description="How many offers are tried before a rent fails.")] = 4


class ConsoleSettings(msgspec.Struct, frozen=True, kw_only=True):
    theme: Annotated[str, Meta(description="Name of a theme: dusk, paper, contrast, okabe, ansi16 or your own.")] = (
        "dusk"
    )
    ascii: Annotated[bool, Meta(description="Draw with ASCII only.")] = False
    mouse: Annotated[bool, Meta(description="Listen to the mouse.")] = True
    fps: Annotated[int, Meta(ge=1, le=60, description="Most repaints a second.")] = 30


class LabSettings(msgspec.Struct, frozen=True, kw_only=True):
    seed: Annotated[int, Meta(ge=0, description="Which world: the same seed, the same hosts and prices.")] = 7
    boot_s: Annotated[float, Meta(ge=0, description="Seconds from rented to running: 0 differs around 8.")] = 0.0
    speed: Annotated[float, Meta(gt=0, description="How fast the world's time runs.")] = 1.0
    pacing: Annotated[
        Literal["real", "off"], Meta(description="Whether calls are paced as the real API paces them.")
    ] = "real"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, typed. `keys`: action id of the console -> the keys that do it, separated by blanks."""

    engine: EngineSettings = EngineSettings()
    budget: BudgetSettings = BudgetSettings()
    vast: VastSettings = VastSettings()
    rent: RentSettings = RentSettings()
    console: ConsoleSettings = ConsoleSettings()
    lab: LabSettings = LabSettings()
    keys: dict[str, str] = {}


@dataclass(frozen=True)
class Key:
    """One setting: `section.name`, what it takes and how it is named in the environment."""

    section: str
    name: str
    kind: Any
    type_name: str
    default: Any
    environment: str
    doc: str

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"


@dataclass(frozen=True)
class Loaded:
    """`problems`: one sentence for each line that was left out; `origins`: key -> default, file or environment."""

    settings: Settings
    problems: tuple[str, ...]
    origins: Mapping[str, Literal["default", "file", "environment"]]


_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "engine": EngineSettings,
    "budget": BudgetSettings,
    "vast": VastSettings,
    "rent": RentSettings,
    "console": ConsoleSettings,
    "lab": LabSettings,
}


def _type_name(kind: Any) -> str:
    plain = kind.__origin__ if hasattr(kind, "__metadata__") else kind
    choices = getattr(plain, "__args__", None)
    return " | ".join(choices) if choices else str(plain.__name__)


def _keys() -> dict[str, Key]:
    found: dict[str, Key] = {}
    for section, struct in _SECTIONS.items():
        hints = get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            kind = hints[field.name]
            key = Key(
                section=section,
                name=field.name,
                kind=kind,
                type_name=_type_name(kind),
                default=field.default,
                environment=f"{PREFIX}{section}_{field.name}".upper(),
                doc=kind.__metadata__[0].description,
            )
            found[key.path] = key
    return found


KEYS: Mapping[str, Key] = _keys()


def load(home: Home, environ: Mapping[str, str] | None = None) -> Loaded:
    """The home's settings. Never raises for what is written in the file or the environment: see `problems`."""
    problems: list[str] = []
    table = _read(home, problems)
    environment = os.environ if environ is None else environ
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    origins: dict[str, Literal["default", "file", "environment"]] = {}
    _note_unknown(table, home, problems)
    for key in KEYS.values():
        origins[key.path] = "default"
        section = table.get(key.section)
        if isinstance(section, dict) and key.name in section:
            _take(key, section[key.name], home, values, origins, problems)
        if environment.get(key.environment):
            _take(key, environment[key.environment], None, values, origins, problems)
    if home.is_lab and values["vast"].pop("base_url", ""):
        problems.append("vast.base_url is refused in a lab home: its engine talks to the lab only.")
        origins["vast.base_url"] = "default"
    settings = msgspec.convert(values | {"keys": _bindings(table, problems)}, Settings)
    return Loaded(settings, tuple(problems), origins)


def value_of(settings: Settings, path: str) -> Any:
    """The value of `section.name`. Raises NotFoundError for a key that does not exist."""
    if path.startswith("keys.") and path.removeprefix("keys.") in settings.keys:
        return settings.keys[path.removeprefix("keys.")]
    key = find(path)
    return getattr(getattr(settings, key.section), key.name)


def find(path: str) -> Key:
    """Raises NotFoundError for a key that does not exist."""
    key = KEYS.get(path)
    if key is None:
        raise NotFoundError(f"There is no setting '{path}'.", hint="All of them: understudy config list.")
    return key


def set_value(home: Home, path: str, text: str) -> Any:
    """Writes one key into config.toml, keeping its comments and order; returns the value as understood.

    Raises NotFoundError for an unknown key, ConfigError for a value that it does not take or a file that is broken.
    """
    import tomlkit  # only this verb needs it
    from tomlkit.exceptions import TOMLKitError

    if path.startswith("keys.") and len(path) > len("keys."):
        section, name, value = "keys", path.removeprefix("keys."), text
    else:
        key = find(path)
        section, name, value = key.section, key.name, _convert(key, text, strict=False)
    if path == "vast.base_url" and value and home.is_lab:
        raise ConfigError("vast.base_url is refused in a lab home: its engine talks to the lab only.")
    try:
        before = home.config_file.read_text("utf-8") if home.config_file.exists() else ""
        document = tomlkit.parse(before)
        if section not in document:
            document[section] = tomlkit.table()
        document[section][name] = value
        after = tomlkit.dumps(document)
    except (TOMLKitError, TypeError, ValueError) as e:
        raise ConfigError(
            f"{home.config_file} cannot be edited as it is: {e}.", hint="Put it right by hand, then try again."
        ) from e
    _write(home, after)
    return value


def shown(path: str, value: Any) -> Any:
    """The value as it may be shown: the password in a database's URL is left out."""
    if path.endswith("_url") and isinstance(value, str):
        return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", value)
    return value


def _write(home: Home, text: str) -> None:
    temporary = home.config_file.with_suffix(".toml.new")
    try:
        home.create()
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(home.config_file)
    except OSError as e:
        raise ConfigError(f"{home.config_file} cannot be written: {e.strerror}.", hint="It is as it was before.") from e


def _read(home: Home, problems: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(home.config_file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as e:
        problems.append(f"{home.config_file} cannot be read ({e.strerror}); the defaults hold.")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        problems.append(f"{home.config_file} is no TOML ({e}); the defaults hold.")
    return {}


def _note_unknown(table: dict[str, Any], home: Home, problems: list[str]) -> None:
    for section, entries in table.items():
        if section == "keys":
            continue
        if section not in _SECTIONS:
            problems.append(f"{home.config_file}: there is no section [{section}]; it is left out.")
        elif not isinstance(entries, dict):
            problems.append(f"{home.config_file}: '{section}' must be a section, [{section}]; it is left out.")
        else:
            unknown = [name for name in entries if f"{section}.{name}" not in KEYS]
            problems.extend(f"{home.config_file}: there is no setting {section}.{n}; it is left out." for n in unknown)


def _take(
    key: Key,
    raw: Any,
    home: Home | None,
    values: dict[str, dict[str, Any]],
    origins: dict[str, Literal["default", "file", "environment"]],
    problems: list[str],
) -> None:
    """`home` None: the value is a word of the environment."""
    try:
        values[key.section][key.name] = _convert(key, raw, strict=home is not None)
        origins[key.path] = "file" if home is not None else "environment"
    except ConfigError as e:
        where = str(home.config_file) if home is not None else key.environment
        problems.append(f"{where}: {str(e).rstrip('.')}; it is left out.")


def _convert(key: Key, raw: Any, *, strict: bool) -> Any:
    try:
        return msgspec.convert(raw, key.kind, strict=strict)
    except msgspec.ValidationError as e:
        got = "another value" if key.name.endswith("_url") else repr(raw)[:60]
        said = re.sub(r", got `.*?`", "", str(e)).replace("`", "")
        raise ConfigError(
            f"{key.path} takes {key.type_name}, not {got} ({said}).", hint=f"{key.doc} Default: {key.default!r}."
        ) from e


def _bindings(table: dict[str, Any], problems: list[str]) -> dict[str, str]:
    """`[keys]`: an action's keys as one string, or as a list of them. Whether the action exists, the console knows."""
    section = table.get("keys", {})
    if not isinstance(section, dict):
        problems.append("'keys' must be a section, [keys]; it is left out.")
        return {}
    bound: dict[str, str] = {}
    for action, keys in section.items():
        words = keys.split() if isinstance(keys, str) else keys
        if isinstance(words, list) and all(isinstance(w, str) and w for w in words):
            bound[action] = " ".join(words)
        else:
            problems.append(f"keys.{action} takes keys as a string, not {keys!r:.60}; it is left out.")
    return bound
