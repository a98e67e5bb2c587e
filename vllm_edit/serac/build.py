"""Makes SERAC from a server's settings."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from vllm_edit import factworld
from vllm_edit.domain.errors import Unavailable
from vllm_edit.engine.checkpoint import resolve
from vllm_edit.security.hashed_key import read_key
from vllm_edit.serac.child_server import ChildOptions, ChildServer
from vllm_edit.serac.model_server import ModelServer, RemoteServer
from vllm_edit.serac.serac import Serac
from vllm_edit.settings import Settings

KEY = "VLLM_EDIT_SERAC_KEY"


def build(
    settings: Settings,
    sockets: Path,
    served: Path,
    environment: MutableMapping[str, str] = os.environ,
) -> Serac | None:
    """SERAC with the model at the URL in the settings, or else the one in the folder.

    If the settings name neither, the bundled model answers for itself where it is the one in
    `served`; for any other model the result is None. `sockets` is an existing folder that only
    this user may enter. The key is removed from the environment, so that processes started from
    now on cannot see it.

    Raises:
        Unavailable: a setting cannot be used.
    """
    key = _take_key(settings, environment)
    if settings.serac_url:
        server: ModelServer = RemoteServer(
            settings.serac_url, settings.serac_name, key, settings.serac_timeout
        )
        return Serac(server)
    model = settings.serac_model or (str(served) if _is_bundled(served) else "")
    if not model:
        return None
    options = ChildOptions(
        model=resolve(model),
        sockets=sockets,
        device=settings.serac_device,
        threads=settings.serac_threads,
        timeout=settings.serac_timeout,
    )
    return Serac(ChildServer(options))


def _take_key(settings: Settings, environment: MutableMapping[str, str]) -> str:
    key = environment.pop(KEY, "").strip()
    if key and settings.serac_key_file:
        raise Unavailable("There are two keys for the counterfactual model: give it, or a file.")
    return read_key(Path(settings.serac_key_file)) if settings.serac_key_file else key


def _is_bundled(folder: Path) -> bool:
    return folder.resolve() == factworld.checkpoint().resolve()
