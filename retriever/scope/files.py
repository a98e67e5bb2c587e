"""A classifier on disk: `classifier.safetensors`, and `classifier.json` that describes it.

Only the trained weights are stored, as float16. They need their base model, whose fingerprint is
stored with them.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retriever.encoder import HUB_NAME, Dtype, default_encoder
from retriever.errors import InvalidClassifierError

if TYPE_CHECKING:
    from retriever.scope.network import CrossEncoder

FORMAT = 1
SHIPPED = Path(__file__).resolve().parent / "shipped"


@dataclass(frozen=True, slots=True)
class Description:
    """The content of `classifier.json`."""

    base: str
    """The base model's folder or hub name."""
    fingerprint: str
    """Of the base model's weights."""
    rank: int
    threshold: float
    """Chosen on subjects that were not trained on."""
    sha256: str = ""
    """Of the file of weights."""
    format: int = FORMAT
    report: dict[str, Any] = field(default_factory=dict)
    """How it was trained and what was measured."""


def save(network: "CrossEncoder", description: Description, folder: Path) -> None:
    """Write both files; the folder is made."""
    import torch
    from safetensors.torch import save as to_bytes

    tensors = {
        name: weight.detach().to(torch.float16).contiguous()
        for name, weight in network.trained().items()
    }
    data = to_bytes(tensors)
    values = asdict(description) | {"sha256": hashlib.sha256(data).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classifier.safetensors").write_bytes(data)
    (folder / "classifier.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def describe(folder: Path) -> Description:
    """Read `classifier.json`, or raise `InvalidClassifierError`."""
    path = folder / "classifier.json"
    try:
        description = Description(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidClassifierError(
            f"{path} cannot be read ({error}); give the folder that `vllm-edit scope train` wrote."
        ) from error
    if description.format != FORMAT:
        raise InvalidClassifierError(
            f"{path} is of format {description.format}, this version reads {FORMAT}; "
            "train the classifier again."
        )
    return description


def load(folder: Path, dtype: Dtype = "float32") -> "CrossEncoder":
    """The trained network, adapters folded into its base, which computes in `dtype`.

    Raises `InvalidClassifierError` where a file is damaged or the base is another model, and
    `EncoderUnavailableError` where the base cannot be loaded.
    """
    import torch
    from safetensors.torch import load as from_bytes

    from retriever.scope.network import CrossEncoder

    description = describe(folder)
    path = folder / "classifier.safetensors"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidClassifierError(f"{path} cannot be read ({error}).") from error
    if hashlib.sha256(data).hexdigest() != description.sha256:
        raise InvalidClassifierError(
            f"{path} is not what its description says; copy or train the classifier again."
        )
    network = CrossEncoder(local(description.base), description.rank)
    if network.fingerprint != description.fingerprint:
        raise InvalidClassifierError(
            f"The scope classifier in {folder} was trained on other weights than those of "
            f"{description.base!r} here; train one for these with `vllm-edit scope train`."
        )
    tensors, trained = from_bytes(data), network.trained()
    if {n: t.shape for n, t in tensors.items()} != {n: p.shape for n, p in trained.items()}:
        raise InvalidClassifierError(f"{path} has other weights than its description asks for.")
    for name, parameter in trained.items():
        parameter.data.copy_(tensors[name])
    network.merge()
    network.base.to(getattr(torch, dtype))
    network.requires_grad_(requires_grad=False)
    return network.eval()


def local(base: str) -> str:
    """Where the base is loaded from: a hub name of the default encoder becomes its folder."""
    return default_encoder() if base == HUB_NAME else base


def portable(base: str) -> str:
    """How a description names the base: the default encoder by its hub name."""
    return HUB_NAME if base == default_encoder() else base
