"""The vLLM endpoint plugin: builds the service and joins it to vLLM's own server."""

import logging
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Literal

from fastapi import FastAPI
from starlette.datastructures import State

from vllm_edit.api.attach import attach
from vllm_edit.domain.errors import Unavailable
from vllm_edit.domain.probe import Probes
from vllm_edit.domain.variant import DEFAULT
from vllm_edit.editor.client import EditorClient, EditorOptions
from vllm_edit.engine.checkpoint import find_weights
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.ledger import Ledger, deltas_of
from vllm_edit.memory.build import make_memory, make_router, token_counter
from vllm_edit.probes.controls import controls
from vllm_edit.probes.gate import ProbeGate
from vllm_edit.probes.teller import Teller
from vllm_edit.processes.server_logging import log_with_vllm
from vllm_edit.replication.api_process import Owner, Sibling, api_process
from vllm_edit.request.edit_state import EditState
from vllm_edit.request.health import HealthMiddleware
from vllm_edit.request.metrics import forget_variant
from vllm_edit.request.middleware import EditMiddleware
from vllm_edit.request.variant_asker import VariantAsker
from vllm_edit.security.access import Access, is_loopback
from vllm_edit.security.key_files import Reread
from vllm_edit.security.named_keys import read_named_keys
from vllm_edit.security.rate_limit import RateLimiter
from vllm_edit.security.tenants import Tenants
from vllm_edit.security.users import Users
from vllm_edit.security.visibility import Views
from vllm_edit.serac.build import build as build_serac
from vllm_edit.service.service import EditService
from vllm_edit.service.validation import EditValidator
from vllm_edit.settings import Settings, keep_hash_only
from vllm_edit.vllm_interface.completions import ChatHandler, CompletionHandler
from vllm_edit.vllm_interface.engine import EngineClient, tokenizer
from vllm_edit.vllm_interface.supported import require_supported
from vllm_edit.weights.delta_store import DeltaStore
from vllm_edit.weights.hyperparameters import read_hyperparameters
from vllm_edit.weights.method import WeightMethod

logger = logging.getLogger(__name__)


class EditPlugin:
    """Entry point ``vllm.endpoint_plugins``; see vLLM's ``EndpointPlugin`` for the contract."""

    name = "vllm_edit"
    required_tasks: tuple[Literal["generate"]] = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Add /v1/edits and the middleware that puts facts in front of requests."""
        attach(app)
        app.add_middleware(EditMiddleware)
        app.add_middleware(HealthMiddleware)

    async def init_state(
        self, engine_client: EngineClient | None, state: State, args: Namespace
    ) -> None:
        """Open the store and bring every acknowledged edit into effect, before serving starts.

        Raises:
            EditError: a setting or the store is not usable; the server does not start.
        """
        if engine_client is None:
            return
        keep_hash_only()
        settings = Settings.from_environment()
        log_with_vllm(settings.log_format)
        require_supported()
        edit_state = await _start(settings, engine_client, state, args)
        state.edit_state = edit_state
        logger.info(
            "Edits are kept in %s; revision %d is served.",
            settings.store.shown,
            edit_state.service.served_revision,
        )


async def _start(
    settings: Settings, engine: EngineClient, vllm_state: State, args: Namespace
) -> EditState:
    tenants = _tenants(settings)
    access = access_of(settings, args)
    ledger = Ledger.open(settings.store)
    scratch = tempfile.TemporaryDirectory(prefix="vllm-edit-")
    views = Views(ledger.edit_set)
    names = ModelNames(vllm_state.openai_serving_models, views, ended=forget_variant)
    names.serve_as_merged(DEFAULT)

    completions: CompletionHandler = vllm_state.openai_serving_completion
    serac = build_serac(settings, Path(scratch.name), Path(args.model))
    memory = make_memory(settings, args.model, engine, serac)
    router = make_router(settings, memory, args.model, completions, engine)

    model, missing = find_weights(args.model, args.revision, getattr(args, "download_dir", None))
    if missing is not None:
        logger.warning("There are no weight edits here: %s", missing.message)
    process = await api_process(engine, names, settings, Path(scratch.name), model)
    weights = _weights(settings, model, missing, process, ledger, views, scratch)

    methods = memory.offered | weights.names
    asker = VariantAsker(
        completions,
        router.strict,
        names,
        serac,
        settings.probe_timeout,
        chats=_chats(engine, vllm_state, args),
    )
    service = EditService(
        ledger,
        (memory, weights),
        EditValidator(settings, methods, _special_tokens(engine)),
        settings.max_queue,
        ProbeGate(asker, controls(settings.probe_controls, Path(args.model))),
        Probes(made=True) if settings.probes == "made" else None,
        Teller(asker, token_counter(engine)),
        settings.told_again,
    )
    return EditState(
        settings=settings,
        access=access,
        tenants=tenants,
        users=_users(settings),
        limiter=RateLimiter(settings.max_rate),
        service=service,
        member=await process.join(service, ledger),
        memory=memory,
        router=router,
        names=names,
        views=views,
        grace=process.grace,
        served=process.served,
    )


def access_of(settings: Settings, args: Namespace) -> Access:
    """Who may change edits of a server with these settings and arguments of vLLM's."""
    local = bool(getattr(args, "uds", None)) or is_loopback(args.host)
    named = Reread(Path(settings.keys), read_named_keys) if settings.keys else None
    access = Access(settings.find_admin_key(), local and not settings.tenant_keys, named)
    if access.open:
        logger.warning(
            "There is no admin key: every user and program of this machine can change edits. "
            "Set VLLM_EDIT_ADMIN_KEY or --edit-admin-key-file."
        )
    elif not (access.admin_key or access.named):
        logger.warning(
            "There is no admin key, and the server has tenants or listens beyond this machine: "
            "edits can be read, and every change of them is refused. Set VLLM_EDIT_ADMIN_KEY or "
            "--edit-admin-key-file, or listen without tenants on --host 127.0.0.1."
        )
    return access


def _tenants(settings: Settings) -> Tenants:
    return Tenants.from_file(Path(settings.tenant_keys)) if settings.tenant_keys else Tenants({})


def _users(settings: Settings) -> Users:
    return Users.from_file(Path(settings.user_key_file)) if settings.user_key_file else Users()


def _weights(
    settings: Settings,
    model: Path,
    missing: Unavailable | None,
    process: Owner | Sibling,
    ledger: Ledger,
    views: Views,
    scratch: "tempfile.TemporaryDirectory[str]",
) -> WeightMethod:
    hyperparameters = (
        read_hyperparameters(Path(settings.hparams), model)
        if settings.hparams and missing is None
        else {}
    )
    options = EditorOptions(
        model=model,
        sockets=Path(scratch.name),
        statistics=settings.folder / "statistics",
        text=Path(settings.statistics_text) if settings.statistics_text else None,
        device=settings.editor_device,
        threads=settings.editor_threads,
        timeout=settings.compute_timeout,
        trained=settings.trained_folder,
    )
    return WeightMethod(
        store=DeltaStore(settings.folder / "deltas", model, deltas_of(ledger.log)),
        editor=EditorClient(options),
        served=process.served,
        hyperparameters=hyperparameters,
        eager=settings.editor == "eager" and isinstance(process, Owner),
        public=views.public,
        scratch=scratch,
        missing=missing,
    )


def _chats(engine: EngineClient, vllm_state: State, args: Namespace) -> ChatHandler | None:
    """What answers chats; None if there is no chat template."""
    template = getattr(args, "chat_template", None)
    template = template or getattr(tokenizer(engine), "chat_template", None)
    return getattr(vllm_state, "openai_serving_chat", None) if template else None


def _special_tokens(engine: EngineClient) -> frozenset[str]:
    """The strings by which the served model's tokenizer marks turns and ends."""
    served = tokenizer(engine)
    added = getattr(served, "added_tokens_decoder", {}).values()
    special = {token.content for token in added if token.special}
    return frozenset(text for text in {*special, *served.all_special_tokens} if text.strip())
