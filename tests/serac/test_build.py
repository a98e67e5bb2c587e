"""The counterfactual model that a server's settings select."""

from pathlib import Path

import pytest

from vllm_edit import factworld
from vllm_edit.domain.errors import Unavailable
from vllm_edit.serac.build import KEY, build
from vllm_edit.serac.child_server import ChildServer
from vllm_edit.serac.model_server import RemoteServer
from vllm_edit.settings import Settings

URL = "http://127.0.0.1:9000/v1"


def test_without_settings_only_the_bundled_model_has_a_counterfactual(tmp_path: Path) -> None:
    assert build(Settings(), tmp_path, tmp_path, {}) is None
    serac = build(Settings(), tmp_path, factworld.checkpoint(), {})
    assert serac is not None
    assert isinstance(serac.server, ChildServer)


def test_a_url_has_priority_over_a_folder(tmp_path: Path) -> None:
    folder = build(Settings(serac_model=str(factworld.checkpoint())), tmp_path, tmp_path, {})
    assert folder is not None
    assert isinstance(folder.server, ChildServer)
    assert folder.server.options.sockets == tmp_path
    both = Settings(serac_url=URL, serac_model=str(factworld.checkpoint()))
    url = build(both, tmp_path, tmp_path, {})
    assert url is not None
    assert isinstance(url.server, RemoteServer)


def test_the_key_is_taken_out_of_the_environment(tmp_path: Path) -> None:
    environment = {KEY: "secret", "PATH": "/bin"}
    build(Settings(serac_url=URL), tmp_path, tmp_path, environment)
    assert environment == {"PATH": "/bin"}


def test_there_is_one_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\n")
    settings = Settings(serac_url=URL, serac_key_file=str(file))
    assert build(settings, tmp_path, tmp_path, {}) is not None
    with pytest.raises(Unavailable, match="two keys"):
        build(settings, tmp_path, tmp_path, {KEY: "other"})
    file.write_text("")
    with pytest.raises(Unavailable, match="holds no key"):
        build(settings, tmp_path, tmp_path, {})


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        build(Settings(serac_model="no/such-model"), tmp_path, tmp_path, {})
