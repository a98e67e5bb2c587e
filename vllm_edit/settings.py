"""The server's settings: one dataclass, read from ``VLLM_EDIT_*`` or ``--edit-*`` flags."""

import argparse
import math
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, get_args

from retriever.encoder import Dtype
from retriever.memprompt.feedback import DEFAULT_LIKENESS
from retriever.settings import DEFAULT_THRESHOLD
from vllm_edit.domain.errors import Unavailable
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.store import Store


def _setting(default: object, help_text: str, **extra: Any) -> Any:
    return field(default=default, metadata={"help": help_text, **extra})


@dataclass(frozen=True)
class Settings:
    """What a user can choose. Field ``store`` is flag ``--edit-store`` and ``VLLM_EDIT_STORE``."""

    store: Store = _setting(  # noqa: RUF009 - the default cannot be changed
        Store("vllm-edit-store"),
        "folder of the ledger and the deltas, or the postgresql:// URL of a database for them",
    )
    cache: str = _setting(
        "vllm-edit-cache", "folder of this server's own files where the store is a database"
    )
    bus: str = _setting(
        "",
        "address without a port, as tcp://10.0.0.5, at which servers of the same store on other "
        "machines reach this one (empty: servers on this machine only)",
    )
    encoder: str = _setting(
        "", "sentence encoder, a folder or a hub name (empty: all-MiniLM-L6-v2)"
    )
    encoder_dtype: str = _setting(
        "float32",
        "what the sentence encoder and the scope classifier compute in; bfloat16 takes half the "
        "time where the processor has it",
        choices=get_args(Dtype),
    )
    scope_classifier: str = _setting(
        "", "folder of a scope classifier of your own (empty: the one that is shipped)"
    )
    scope_threshold: float = _setting(
        DEFAULT_THRESHOLD,
        "least probability that a memory edit concerns a request, 0 to 1",
        least=0,
        most=1,
    )
    demonstrations: str = _setting(
        "", "JSON lines of in-context demonstrations (new_fact, prompt, answer)"
    )
    demonstration_count: int = _setting(
        4, "demonstrations put in front of a request in scope", least=0
    )
    demonstration_choice: str = _setting(
        "nearest",
        "which ones: those most like the fact (nearest), or the same for all requests (fixed), "
        "which the prefix cache then serves",
        choices=("nearest", "fixed"),
    )
    chat_slot: str = _setting(
        "user",
        "where facts stand in a chat: in front of the last user turn, or in the system message",
        choices=("user", "system"),
    )
    max_added_tokens: int = _setting(
        1024,
        "most tokens put in front of a request, and never more than half of the context",
        least=1,
    )
    mello_questions: str = _setting(
        "asked",
        "which questions are taken apart while there are mello edits: those of requests that ask "
        "for it (edit_hops), those that name the subject of such an edit too, or all",
        choices=("asked", "named", "all"),
    )
    mello_hops: int = _setting(4, "most subquestions of one question", least=1)
    mello_format: str = _setting(
        "", "JSON file of the labels and demonstrations by which questions are taken apart"
    )
    feedback_likeness: float = _setting(
        DEFAULT_LIKENESS,
        "least cosine of a question and its kind, for memprompt edits",
        least=-1,
        most=1,
    )
    route_budget_ms: float = _setting(
        0.0,
        "milliseconds to see whether an edit concerns a request, hops included (0: any time)",
        least=0,
    )
    route_over_budget: str = _setting(
        "pass",
        "what becomes of a request beyond that: served without memory edits (pass), or fail",
        choices=("pass", "fail"),
    )
    serac_url: str = _setting(
        "",
        "SERAC's counterfactual model: URL of an OpenAI-compatible server, http://HOST:PORT/v1; "
        "its key, if it wants one, is VLLM_EDIT_SERAC_KEY or in a file",
    )
    serac_name: str = _setting("", "model to ask for at that URL (empty: the first that it lists)")
    serac_key_file: str = _setting("", "file that holds the key for that URL")
    serac_model: str = _setting(
        "",
        "where there is no URL, the checkpoint of a small counterfactual model, run in a process "
        "of its own: a folder, or a name in the hub's cache (vllm-edit serac train makes one)",
    )
    serac_device: str = _setting("cpu", "device of the counterfactual model's process")
    serac_threads: int = _setting(1, "CPU threads of the counterfactual model's process", least=1)
    serac_timeout: float = _setting(
        60.0,
        "seconds in which the counterfactual model must give the next piece of an answer",
        least=0,
    )
    statistics_text: str = _setting(
        "", "text file, folder or Hugging Face dataset that key statistics are made from"
    )
    hparams: str = _setting(
        "", "YAML file of hyperparameters, a mapping for each weight method and for the governor"
    )
    pause_mode: str = _setting(
        "keep",
        "what a swap does with running requests: keep (recomputed), wait (finished first), abort",
        choices=("keep", "wait", "abort"),
    )
    swap_share: float = _setting(
        0.1,
        "most of the time that swaps may take from running requests, by recomputing them; a swap "
        "waits until then, and shares it with those that come meanwhile (1: none waits)",
        least=0.001,
        most=1,
    )
    editor: str = _setting(
        "lazy",
        "when the editor process loads its copy of the model: with the first weight edit (lazy) "
        "or with the server (eager)",
        choices=("lazy", "eager"),
    )
    editor_device: str = _setting("cpu", "device of the editor's copy of the model")
    editor_threads: int = _setting(1, "CPU threads of the editor process", least=1)
    compute_timeout: float = _setting(
        600.0, "seconds after which a computation is given up", least=0
    )
    probes: str = _setting(
        "none",
        "what weight edits are judged by that bring no probes and whose set has none: nothing "
        "(none), or probes made for them (made)",
        choices=("none", "made"),
    )
    probe_controls: str = _setting(
        "",
        "text file of prompts, one a line, that made probes hold every edit to answer as before "
        "(empty: a dozen with plain answers)",
    )
    probe_timeout: float = _setting(
        30.0,
        "seconds in which a probe must be answered; beyond them the edit has failed",
        least=0,
    )
    admin_key: HashedKey = _setting(  # noqa: RUF009 - the default cannot be changed
        HashedKey(),
        "key that changes of edits need, or sha256: and its hash; rather use the variable or a "
        "file, since arguments show in process listings",
    )
    admin_key_file: str = _setting("", "file that holds the admin key")
    tenant_keys: str = _setting(
        "", "YAML file of tenants and their keys, for edit sets that only one tenant sees"
    )
    max_body_bytes: int = _setting(1 << 20, "longest body of POST /v1/edits", least=1)
    max_batch: int = _setting(1000, "most edits in one POST /v1/edits", least=1)
    max_queue: int = _setting(2000, "most weight edits that wait or are computed", least=0)
    max_rate: float = _setting(
        50.0, "most changes a second from one client, on average over 10 s (0: any number)", least=0
    )
    max_prompt_chars: int = _setting(2000, "longest prompt or subject of an edit", least=1)
    max_target_chars: int = _setting(500, "longest target_new or ground_truth of an edit", least=1)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read ``VLLM_EDIT_*``; raises Unavailable naming the variable that is not usable."""
        values: dict[str, Any] = {}
        for item in fields(cls):
            text = environment.get(variable(item.name))
            if text is None:
                continue
            try:
                values[item.name] = _kind(item)(text)
            except ValueError as error:
                raise Unavailable(
                    f"{variable(item.name)}={text!r} is not a {_kind(item).__name__}."
                ) from error
            if reason := _unusable(item, values[item.name]):
                raise Unavailable(f"{variable(item.name)}={text!r} is {reason}.")
        return cls(**values)

    @property
    def folder(self) -> Path:
        """Where the server's files are: the store, or the cache beside a database."""
        return Path(self.cache if self.store.shared else self.store)

    def find_admin_key(self) -> HashedKey:
        """The admin key as given or from its file; raises Unavailable where that has none."""
        if self.admin_key and self.admin_key_file:
            raise Unavailable("There are two admin keys: give the key or a file of it, not both.")
        if self.admin_key_file:
            return HashedKey.from_file(Path(self.admin_key_file))
        return self.admin_key


def _kind(item: "Field[Any]") -> type:
    """The type of a field, as its default has it."""
    kind: type = type(item.default)
    return kind


def _unusable(item: "Field[Any]", value: Any) -> str | None:
    """Why the field cannot have the value, if it cannot."""
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        return f"none of {', '.join(choices)}"
    least, most = item.metadata.get("least"), item.metadata.get("most", math.inf)
    if least is None or least <= value <= most:
        return None
    return f"below {least:g}" if most == math.inf else f"not between {least:g} and {most:g}"


def variable(name: str) -> str:
    """The environment variable of a field of Settings."""
    return f"VLLM_EDIT_{name.upper()}"


def keep_hash_only(environment: MutableMapping[str, str] = os.environ) -> None:
    """Put the hash of the admin key, if there is one, in the place of the key or its file.

    Processes started from now on do not learn the key. Raises Unavailable for settings that are
    not usable.
    """
    key = Settings.from_environment(environment).find_admin_key()
    environment.pop(variable("admin_key_file"), None)
    environment[variable("admin_key")] = str(key)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one ``--edit-*`` flag for every field; a flag not given leaves the variable alone."""
    group = parser.add_argument_group("edits", "settings of vllm-edit")
    for item in fields(Settings):
        group.add_argument(
            f"--edit-{item.name.replace('_', '-')}",
            dest=variable(item.name),
            type=_kind(item),
            choices=item.metadata.get("choices"),
            default=argparse.SUPPRESS,
            help=f"{item.metadata['help']} (default: {item.default!r})",
        )


def flags_to_environment(namespace: argparse.Namespace) -> dict[str, str]:
    """The variables set by the flags in ``namespace``."""
    return {k: str(v) for k, v in vars(namespace).items() if k.startswith("VLLM_EDIT_")}
