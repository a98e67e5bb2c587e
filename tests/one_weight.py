"""The smallest base that a delta can be of: one weight of two by two."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from weight_patchers import Delta, LowRank, fingerprint


def base(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"weight": torch.ones(2, 2)}, folder / "model.safetensors")
    return folder


def delta_of(model: Path) -> Delta:
    change = LowRank(torch.ones(2, 1), torch.ones(2, 1))
    return Delta(fingerprint(model), "memit", {}, {"weight": change}, ())
