"""Secrets by name: the environment's usual variable, the system's keyring, else a 0600 file in the home.

One rule: a secret's value is never in an argument list, a log, a repr or a message; only `reveal()` gives it.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from core import labfile
from core.domain.errors import ConfigError, IntentRefused, NotFoundError, StoreError
from core.home import Home

# name -> the variable under which the provider's own tools look for it (Vast.ai: its command-line client)
KNOWN: Final[Mapping[str, str]] = {"vast": "VAST_API_KEY"}

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_IN_KEYRING = ".keyring"  # suffix of the empty file that says: this one is in the keyring
_SERVICE = "understudy"


class Secret:
    """A value that shows itself to nobody: not by str, repr, format, comparison by time, pickle or JSON."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return id(type(self))

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled")


def get(home: Home, name: str, environ: Mapping[str, str] | None = None) -> Secret | None:
    """The secret, or None when none was set. In a lab home the lab's own token, and never a real key.

    Raises StoreError when it is stored and cannot be read, ConfigError when others could read its file.
    """
    if home.is_lab and name in KNOWN:
        lab = labfile.read(home)
        return None if lab is None else Secret(lab.token)
    environment = os.environ if environ is None else environ
    variable = KNOWN.get(name)
    if variable and environment.get(variable):
        return Secret(environment[variable].strip())
    if _mark(home, name).exists():
        return _from_keyring(home, name)
    return _from_file(_file(home, name))


def set(home: Home, name: str, value: Secret) -> str:
    """Stores it, in the keyring when one really works; returns where, in words. Raises IntentRefused, StoreError."""
    check_name(name)
    if home.is_lab and name in KNOWN:
        raise IntentRefused(
            "This is a lab home: it takes no real key.", hint="Use a home of its own for real accounts: --home DIR."
        )
    text = value.reveal().strip()
    if not text or any(ord(c) < 32 for c in text):
        raise IntentRefused("A secret is one line of text and not empty.")
    directory = home.create().secrets_dir
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        if not home.is_lab and _into_keyring(home, name, text):
            _write(_mark(home, name), "")
            _file(home, name).unlink(missing_ok=True)
            return "the system's keyring"
        _write(_file(home, name), text)
        _mark(home, name).unlink(missing_ok=True)
    except OSError as e:
        raise StoreError(f"The secret cannot be written: {e.strerror}.", hint=f"Look at {directory}.") from e
    return f"{_file(home, name)} (0600)"


def remove(home: Home, name: str) -> None:
    """Forgets a stored secret. Raises NotFoundError when none is stored under that name."""
    mark, file = _mark(home, name), _file(home, name)
    if not mark.exists() and not file.exists():
        raise NotFoundError(f"No secret '{name[:60]}' is stored.", hint="Those that are: understudy secrets list.")
    if mark.exists():
        _out_of_keyring(home, name)
    mark.unlink(missing_ok=True)
    file.unlink(missing_ok=True)


def names(home: Home, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Name -> where it comes from: `environment NAME`, `keyring`, `file` or `lab`. No value is read."""
    environment = os.environ if environ is None else environ
    found = stored(home)
    if home.is_lab:
        found = dict.fromkeys(KNOWN, "lab")
    else:
        found |= {name: f"environment {v}" for name, v in KNOWN.items() if environment.get(v)}
    return dict(sorted(found.items()))


def stored(home: Home) -> dict[str, str]:
    """Name -> `keyring` or `file`, for what this home itself keeps."""
    found: dict[str, str] = {}
    if home.secrets_dir.is_dir():
        for path in home.secrets_dir.iterdir():
            name = path.name.removesuffix(_IN_KEYRING)
            if _NAME.fullmatch(name):
                found[name] = "keyring" if path.name.endswith(_IN_KEYRING) else "file"
    return found


def check_name(name: str) -> str:
    """Raises IntentRefused for what cannot name a secret."""
    if not _NAME.fullmatch(name):
        raise IntentRefused(
            f"'{name[:60]}' cannot name a secret.", hint="Use lower-case letters, digits and '-', for example: vast."
        )
    return name


def _file(home: Home, name: str) -> Path:
    return home.secrets_dir / check_name(name)


def _mark(home: Home, name: str) -> Path:
    return home.secrets_dir / (check_name(name) + _IN_KEYRING)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _from_file(path: Path) -> Secret | None:
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise ConfigError(f"{path} can be read by others.", hint=f"Make it yours alone: chmod 600 {path}.")
        return Secret(path.read_text("utf-8").strip())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as e:
        raise StoreError(f"The secret in {path} cannot be read.", hint="Set it again: understudy secrets set.") from e


def _account(home: Home, name: str) -> str:
    """Two homes never see each other, in the keyring either."""
    return f"{name} of {home.state}"


def _into_keyring(home: Home, name: str, text: str) -> bool:
    """Whether a real backend took it and gave the same back; a machine without one uses files."""
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.set_password(_SERVICE, _account(home, name), text)
        return keyring.get_password(_SERVICE, _account(home, name)) == text
    except (KeyringError, RuntimeError, OSError):
        return False


def _from_keyring(home: Home, name: str) -> Secret:
    import keyring
    from keyring.errors import KeyringError

    hint = f"Unlock the keyring, or store it again: understudy secrets set {name}."
    try:
        value = keyring.get_password(_SERVICE, _account(home, name))
    except (KeyringError, RuntimeError, OSError) as e:
        raise StoreError(f"The keyring that holds the secret '{name}' cannot be opened.", hint=hint) from e
    if value is None:
        raise StoreError(f"The keyring no longer has the secret '{name}'.", hint=hint)
    return Secret(value)


def _out_of_keyring(home: Home, name: str) -> None:
    import keyring
    from keyring.errors import KeyringError, PasswordDeleteError

    try:
        keyring.delete_password(_SERVICE, _account(home, name))
    except PasswordDeleteError:
        return  # the keyring has already forgotten it: what was asked for is true
    except (KeyringError, RuntimeError, OSError) as e:
        raise StoreError(
            f"The keyring that holds the secret '{name}' cannot be opened.", hint="Unlock it, then try again."
        ) from e
