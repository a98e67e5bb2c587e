"""The counterfactual model that a server's settings name."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from vllm_edit import factworld
from vllm_edit.domain.errors import Unavailable
from vllm_edit.engine.checkpoint import resolve
from vllm_edit.security.hashed_key import read_key
from vllm_edit.serac.editor import Serac
from vllm_edit.serac.own_process import OwnProcess, ProcessOptions
from vllm_edit.serac.upstream import Upstream, UrlUpstream
from vllm_edit.settings import Settings

KEY = "VLLM_EDIT_SERAC_KEY"


def build(
    settings: Settings,
    sockets: Path,
    served: Path,
    environment: MutableMapping[str, str] = os.environ,
) -> Serac | None:
    """SERAC with the model at the URL, or else of the folder, that the settings name.

    None where they name neither, unless the bundled model is `served`, which can take its own
    part. `sockets` is an existing folder that only this user may enter. The key is taken out of
    the environment, so that processes started from now on do not learn it.

    Raises:
        Unavailable: a setting is not usable.
    """
    key = _take_key(settings, environment)
    if settings.serac_url:
        upstream: Upstream = UrlUpstream(
            settings.serac_url, settings.serac_name, key, settings.serac_timeout
        )
        return Serac(upstream)
    model = settings.serac_model or (str(served) if _is_bundled(served) else "")
    if not model:
        return None
    options = ProcessOptions(
        model=resolve(model),
        sockets=sockets,
        device=settings.serac_device,
        threads=settings.serac_threads,
        timeout=settings.serac_timeout,
    )
    return Serac(OwnProcess(options))


def _take_key(settings: Settings, environment: MutableMapping[str, str]) -> str:
    key = environment.pop(KEY, "").strip()
    if key and settings.serac_key_file:
        raise Unavailable("There are two keys for the counterfactual model: give it, or a file.")
    return read_key(Path(settings.serac_key_file)) if settings.serac_key_file else key


def _is_bundled(folder: Path) -> bool:
    return folder.resolve() == factworld.checkpoint().resolve()
