"""The server's settings, read from ``VLLM_EDIT_*`` or ``--edit-*`` flags."""

import argparse
import os
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from retriever.encoder import Dtype
from retriever.ike.settings import Choice, Order
from retriever.mello.settings import Questions
from retriever.memprompt.feedback import DEFAULT_LIKENESS
from retriever.settings import DEFAULT_THRESHOLD
from vllm_edit.domain.errors import Unavailable
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.key_files import Reread
from vllm_edit.store import Store


def _hash(key: str | HashedKey) -> HashedKey:
    return key if isinstance(key, HashedKey) else HashedKey(key)


Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Duration = Annotated[float, Field(ge=0)]


# pydantic-settings would read the process's environment wherever a test or a tool makes Settings.
class Settings(BaseModel):
    """What a user can choose. Field ``store`` is flag ``--edit-store`` and ``VLLM_EDIT_STORE``.

    The annotation of a field gives its choices and bounds, the sentence under it its help text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    store: Annotated[Store, PlainValidator(Store)] = Store("vllm-edit-store")
    """Folder for the ledger and the deltas, or the postgresql:// URL of a database for them."""
    cache: str = "vllm-edit-cache"
    """Folder for this server's own files when the store is a database."""
    bus: str = ""
    """Address without a port, such as tcp://10.0.0.5, under which servers on other machines that
    share the store reach this server (empty: only servers on this machine)."""
    bus_key_file: str = ""
    """File with a key that all servers of the store have, and nobody else; needed with
    --edit-bus."""
    encoder: str = ""
    """Sentence encoder: a folder or a hub name (empty: all-MiniLM-L6-v2)."""
    encoder_dtype: Dtype = "float32"
    """Number format in which the sentence encoder and the scope classifier compute; bfloat16 takes
    half the time on a processor that supports it."""
    scope_classifier: str = ""
    """Folder of your own scope classifier (empty: the one that comes with vllm-edit)."""
    scope_threshold: Annotated[float, Field(ge=0, le=1)] = DEFAULT_THRESHOLD
    """Lowest probability at which a memory edit is taken to concern a request."""
    prompt_form: str = ""
    """YAML file of how facts are put in front of prompts and chats (empty: the form recorded for
    the model, or the generic one)."""
    demonstrations: str = ""
    """JSON lines file of in-context demonstrations (new_fact, prompt, answer; empty: those that
    come with vllm-edit)."""
    demonstration_count: Annotated[int, Field(ge=-1)] = -1
    """Number of demonstrations put in front of a request that an edit concerns (-1: what the
    model's prompt form says)."""
    demonstration_order: Order = "demonstrations"
    """What comes first: the demonstrations, which the prefix cache can then serve, or the facts."""
    demonstration_choice: Choice = "nearest"
    """Which demonstrations: those most like the fact (nearest), or the same ones for all requests
    (fixed), which the prefix cache can then serve."""
    chat_slot: Literal["form", "user", "system"] = "form"
    """Where facts go in a chat: in front of the last user turn (user), in the system message
    (system), or where the model's prompt form says (form)."""
    max_added_tokens: AtLeastOne = 1024
    """Most tokens put in front of a request; never more than half of the context."""
    mello_questions: Questions = "asked"
    """Which questions are split into subquestions while mello edits exist: only those of requests
    that ask for it with edit_hops (asked), also those that name the subject of such an edit
    (named), or all of them (all)."""
    mello_hops: AtLeastOne = 4
    """Most subquestions for one question."""
    mello_format: str = ""
    """JSON file of the labels and demonstrations used to split questions into subquestions."""
    feedback_likeness: Annotated[float, Field(ge=-1, le=1)] = DEFAULT_LIKENESS
    """Lowest cosine similarity at which a memprompt edit applies to a question."""
    route_budget_ms: Duration = 0.0
    """Milliseconds allowed for finding out whether an edit concerns a request, subquestions
    included (0: no limit)."""
    route_over_budget: Literal["pass", "fail"] = "pass"
    """What happens to a request that takes longer: it is served without memory edits (pass), or it
    fails (fail)."""
    serac_url: str = ""
    """URL of an OpenAI-compatible server, http://HOST:PORT/v1, that serves SERAC's counterfactual
    model; if it needs a key, set VLLM_EDIT_SERAC_KEY or name a key file."""
    serac_name: str = ""
    """Model to ask for at that URL (empty: the first one that it lists)."""
    serac_key_file: str = ""
    """File that holds the key for that URL."""
    serac_model: str = ""
    """Without a URL: checkpoint of a small counterfactual model that runs in its own process, a
    folder or a name in the hub's cache (vllm-edit serac train makes one)."""
    serac_device: str = "cpu"
    """Device of the counterfactual model's process."""
    serac_threads: AtLeastOne = 1
    """CPU threads of the counterfactual model's process."""
    serac_timeout: Duration = 60.0
    """Seconds within which the counterfactual model must send the next piece of an answer."""
    statistics_text: str = ""
    """Text file, folder or Hugging Face dataset from which key statistics are computed."""
    trained_editors: str = ""
    """Folder of the editors that vllm-edit mend train and vllm-edit ke train make (empty: trained/
    in the edit store)."""
    hparams: str = ""
    """YAML file of hyperparameters: a mapping for each weight method and one for the governor."""
    spare_units: Count = 0
    """Spare inner units in the MLP of each layer that t-patcher and calinet write to, for their
    edits: each takes some, and one that finds too few is refused (0: such edits are refused)."""
    spare_layers: Annotated[str, Field(pattern=r"^(\d+(,\d+)*)?$")] = ""
    """Decoder layers that have them, such as 4,5 (empty: those that the shipped hyperparameters of
    these methods name)."""
    pause_mode: Literal["keep", "wait", "abort"] = "keep"
    """What a swap does with running requests: recompute and continue them (keep), let them finish
    first (wait), or end them (abort)."""
    swap_share: Annotated[float, Field(ge=0.001, le=1)] = 0.1
    """Largest share of the time that swaps may take from running requests by recomputing them; a
    swap waits to stay below it, and edits that arrive meanwhile join it (1: no swap waits)."""
    swap_wait: Duration = 60.0
    """Seconds that a swap waits for running requests: those of a variant that it ends, and all of
    them in the pause mode wait. After that, a swap in the mode wait is given up; in the others
    they go on under the new weights (keep) or end (abort)."""
    engine_timeout: Annotated[float, Field(ge=0.1)] = 60.0
    """Seconds within which the engine must answer each step of a swap. Otherwise the swap is
    undone; if the engine does not answer to that either, the server is no longer healthy."""
    editor: Literal["lazy", "eager"] = "lazy"
    """When the editor process loads its copy of the model: with the first weight edit (lazy), or
    when the server starts (eager)."""
    editor_device: str = "cpu"
    """Device of the editor's copy of the model."""
    editor_threads: AtLeastOne = 1
    """CPU threads of the editor process."""
    compute_timeout: Duration = 600.0
    """Seconds after which the computation of a weight edit is given up."""
    probes: Literal["none", "made"] = "none"
    """How to judge a weight edit when neither it nor its edit set brings probes: not at all (none),
    or with probes made for it (made)."""
    probe_controls: str = ""
    """Text file of prompts, one per line, whose answers an edit must not change when its probes are
    made (empty: a dozen prompts with plain answers)."""
    probe_timeout: Duration = 30.0
    """Seconds within which a probe or an edit's own prompt must be answered; otherwise the edit
    fails."""
    told_again: Count = 32
    """Most edits that are asked their own prompt again, in the background, after a change that may
    have affected them: those of its subject first, then those of its weights, the latest first."""
    log_format: Literal["text", "json"] = "text"
    """How the messages of vllm-edit are logged: as vLLM's own (text), or each as a line of JSON
    with the key, the client and the request that it is about (json)."""
    admin_key: Annotated[HashedKey, PlainValidator(_hash)] = HashedKey()
    """Key required to change edits, or sha256: and its hash; prefer the variable or a file, because
    process listings show arguments."""
    admin_key_file: str = ""
    """File that holds the admin key; read again when it changes."""
    keys: str = ""
    """YAML file of further keys with names, for changing edits or for reading; read again when it
    changes."""
    tenant_keys: str = ""
    """YAML file of tenants and their keys, for edit sets that only one tenant can see; read again
    when it changes."""
    max_tenant_edits: Count = 0
    """Most edits in the sets of one tenant that are in effect or on their way (0: no limit)."""
    user_key_file: str = ""
    """File with the key that each user's key is made with: a memprompt edit of a user is then
    recalled only for requests that send the user's."""
    max_body_bytes: AtLeastOne = 1 << 20
    """Largest body of POST /v1/edits, in bytes."""
    max_batch: AtLeastOne = 1000
    """Most edits in one POST /v1/edits."""
    max_queue: Count = 2000
    """Most weight edits that are waiting or being computed at one time."""
    max_rate: Duration = 50.0
    """Most changes per second from one client, on average over 10 s (0: no limit)."""
    max_prompt_chars: AtLeastOne = 2000
    """Longest prompt or subject of an edit, in characters."""
    max_target_chars: AtLeastOne = 500
    """Longest target_new or ground_truth of an edit, in characters."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read ``VLLM_EDIT_*``; raises Unavailable naming the variable that cannot be used."""
        texts = {
            name: environment[variable(name)]
            for name in cls.model_fields
            if variable(name) in environment
        }
        try:
            return cls.model_validate(texts)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise Unavailable(
                f"{variable(name)}={texts[name]!r} cannot be used: {first['msg']}."
            ) from error

    @property
    def folder(self) -> Path:
        """Where the server's files are: the store, or the cache if the store is a database."""
        return Path(self.cache if self.store.shared else self.store)

    @property
    def trained_folder(self) -> Path:
        """Where trained editors are."""
        return Path(self.trained_editors) if self.trained_editors else self.folder / "trained"

    def find_admin_key(self) -> HashedKey | Reread[HashedKey]:
        """The admin key, or its file; raises Unavailable if the file holds none."""
        if self.admin_key and self.admin_key_file:
            raise Unavailable("There are two admin keys: give the key or a file of it, not both.")
        if self.admin_key_file:
            return Reread(Path(self.admin_key_file), HashedKey.from_file)
        return self.admin_key


@dataclass(frozen=True)
class SettingDescription:
    """One setting as help texts and documentation show it; ``bounds`` is "" for none."""

    flag: str
    variable: str
    type: type
    choices: tuple[str, ...]
    default: Any
    bounds: str
    sentence: str


def describe_settings() -> Iterator[SettingDescription]:
    """Every setting, in order."""
    for name, item in Settings.model_fields.items():
        annotation: Any = item.annotation
        choices = get_args(annotation)  # Only a Literal has arguments.
        yield SettingDescription(
            flag=f"--edit-{name.replace('_', '-')}",
            variable=variable(name),
            type=str if choices else annotation,
            choices=choices,
            default=item.default,
            bounds=_bounds(item.metadata),
            sentence=" ".join((item.description or "").split()),
        )


def _bounds(metadata: list[Any]) -> str:
    least = next((f"{item.ge:g}" for item in metadata if isinstance(item, Ge)), "")
    most = next((f"{item.le:g}" for item in metadata if isinstance(item, Le)), "")
    if most:
        return f"{least} to {most}"
    return f"{least} or more" if least else ""


def variable(name: str) -> str:
    """The environment variable of a field of Settings."""
    return f"VLLM_EDIT_{name.upper()}"


def keep_hash_only(environment: MutableMapping[str, str] = os.environ) -> None:
    """Replace the admin key by its hash, so that processes started from now on cannot see it.

    Raises Unavailable for settings that cannot be used.
    """
    environment[variable("admin_key")] = str(Settings.from_environment(environment).admin_key)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one ``--edit-*`` flag for every field; a flag not given leaves the variable alone."""
    group = parser.add_argument_group("edits", "settings of vllm-edit")
    for setting in describe_settings():
        group.add_argument(
            setting.flag,
            dest=setting.variable,
            type=setting.type,
            choices=setting.choices or None,
            default=argparse.SUPPRESS,
            help=f"{setting.sentence} (default: {setting.default!r})",
        )


def flags_to_environment(namespace: argparse.Namespace) -> dict[str, str]:
    """The variables set by the flags in ``namespace``."""
    return {k: str(v) for k, v in vars(namespace).items() if k.startswith("VLLM_EDIT_")}
