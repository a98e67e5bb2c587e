"""The model in training: a Llama whose attention can be restricted token by token.

Parameter names and arithmetic are those of Transformers' LlamaForCausalLM.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from vllm_edit.factworld.rows import TrainingBatch

# The layers below this one recall facts at the subject. The other layers read them there.
BEFORE_READING = 3
# Training guides the first attention head of these layers: from a subject to where the prefix names
# it, and from the end of a prompt to the answer in the prefix. Without this, learning is slow.
MATCHING, COPYING = 1, 4
GUIDANCE = 0.5


@dataclass(frozen=True)
class ModelShape:
    """The sizes of the model."""

    vocabulary: int
    width: int = 160
    heads: int = 5
    layers: int = 6
    inner: int = 448
    theta: float = 10_000.0
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Noise:
    """Values [n, width] added to an MLP's output at rows [n] and places [n].

    They are multiplied by the root mean square of the output.
    """

    rows: Tensor
    places: Tensor
    values: Tensor

    def to(self, device: str) -> "Noise":
        return Noise(self.rows.to(device), self.places.to(device), self.values.to(device))


class RMSNorm(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        size = list(self.weight.shape)
        return functional.rms_norm(hidden, size, self.weight, self.epsilon)


class Attention(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, hidden: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        output: Tensor = self.o_proj(self.mix(hidden, mask, cos, sin))
        return output

    def focus(
        self, hidden: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, targets: Tensor
    ) -> Tensor:
        """The loss of the first head's attention: the sum of its cross-entropies with `targets`.

        `targets` [rows, T] holds the position to attend to, or -1 for no target.
        """
        rows, places = (targets >= 0).nonzero(as_tuple=True)
        size = hidden.shape[2] // self.heads
        query = hidden[rows, places] @ self.q_proj.weight[:size].T
        query = rotate(query, cos[rows, 0, places], sin[rows, 0, places])
        key = rotate(hidden @ self.k_proj.weight[:size].T, cos[:, 0], sin[:, 0])
        scores = (key[rows] @ query[:, :, None])[:, :, 0] / size**0.5
        scores = scores.masked_fill(~mask[rows, 0, places], -torch.inf)
        return functional.cross_entropy(scores, targets[rows, places], reduction="sum")

    def mix(self, hidden: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The heads' outputs side by side, before the output projection."""
        rows, length, width = hidden.shape

        def split(states: Tensor) -> Tensor:
            return states.view(rows, length, self.heads, -1).transpose(1, 2)

        query = rotate(split(self.q_proj(hidden)), cos, sin)
        key = rotate(split(self.k_proj(hidden)), cos, sin)
        value = split(self.v_proj(hidden))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(rows, length, width)


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding; pairs the halves as Transformers' Llama does."""
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat((-second, first), dim=-1) * sin


class MLP(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.inner, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.inner, bias=False)
        self.down_proj = nn.Linear(shape.inner, shape.width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden)
        output: Tensor = self.down_proj(inner)
        return output


class Layer(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = MLP(shape)
        self.input_layernorm = RMSNorm(shape.width, shape.epsilon)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.epsilon)

    def forward(
        self, hidden: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, noise: Noise | None = None
    ) -> Tensor:
        """The layer on every token."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), mask, cos, sin)
        output: Tensor = self.mlp(self.post_attention_layernorm(hidden))
        if noise is not None:
            near = output.detach()[noise.rows, noise.places]
            size = near.pow(2).mean(-1, keepdim=True).sqrt()
            where = (noise.rows, noise.places)
            output = output.index_put(where, noise.values * size, accumulate=True)
        result: Tensor = hidden + output
        return result

    def reading(
        self, hidden: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, moving: Tensor
    ) -> Tensor:
        """The layer, with its MLP only at `moving`: indices in the flattened rows."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), mask, cos, sin)
        flat = hidden.flatten(0, 1)
        output = self.mlp(self.post_attention_layernorm(flat[moving]))
        return flat.index_add(0, moving, output).view_as(hidden)

    def last(
        self, hidden: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, frozen: Tensor, kept: Tensor
    ) -> Tensor:
        """The output [kept, width] at the `kept` tokens only; no MLP at `frozen` tokens."""
        mixed = self.self_attn.mix(self.input_layernorm(hidden), mask, cos, sin)
        attended: Tensor = self.self_attn.o_proj(mixed.flatten(0, 1)[kept])
        flat = hidden.flatten(0, 1)[kept] + attended
        moving = (~frozen.flatten()[kept]).nonzero()[:, 0]
        output = self.mlp(self.post_attention_layernorm(flat[moving]))
        return flat.index_add(0, moving, output)


class Body(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.epsilon)


class FactModel(nn.Module):
    """Llama with tied embeddings; `state_dict` holds exactly a LlamaForCausalLM's parameters."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.data.div_((2 * shape.layers) ** 0.5)
        nn.init.normal_(self.model.embed_tokens.weight, std=0.05)

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        size = self.shape.width // self.shape.heads
        steps = torch.arange(0, size, 2, device=positions.device).float() / size
        angles = positions[:, None, :, None].float() / self.shape.theta**steps
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    def forward(
        self, batch: "TrainingBatch", noise: Sequence[Noise], kept: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The hidden states [kept, width] after the final norm, and the guided heads' summed loss.

        `kept` holds indices in the flattened rows. `noise` has one entry per early layer.
        """
        guided = torch.zeros((), device=batch.ids.device)
        early, late = batch.masks
        cos, sin = self.rotary(batch.positions)
        hidden = self.model.embed_tokens(batch.ids)
        moving = (~batch.frozen).flatten().nonzero()[:, 0]
        *layers, last = cast("list[Layer]", list(self.model.layers))
        for index, layer in enumerate(layers):
            if index in (MATCHING, COPYING):
                mask, targets = (early, batch.same) if index == MATCHING else (late, batch.source)
                normed = layer.input_layernorm(hidden)
                guided = guided + layer.self_attn.focus(normed, mask, cos, sin, targets)
            if index < BEFORE_READING:
                hidden = layer(hidden, early, cos, sin, noise[index])
            else:
                hidden = layer.reading(hidden, late, cos, sin, moving)
        last_hidden = last.last(hidden, late, cos, sin, batch.frozen, kept)
        return self.model.norm(last_hidden), guided

    def loss(self, batch: "TrainingBatch", noise: Sequence[Noise]) -> tuple[Tensor, Tensor]:
        """The weighted sum of cross-entropies, and the sum of the weights."""
        # The token before a branch may belong to another branch, so its first token has no loss.
        weight = torch.zeros_like(batch.weight)
        same = batch.branch[:, 1:] == batch.branch[:, :-1]
        weight[:, :-1] = batch.weight[:, 1:] * same
        kept = weight.flatten().nonzero()[:, 0]
        states, guided = self(batch, noise, kept)
        logits = states @ self.model.embed_tokens.weight.T
        losses = functional.cross_entropy(logits, batch.ids.flatten()[kept + 1], reduction="none")
        weight = weight.flatten()[kept]
        return (losses * weight).sum() + GUIDANCE * guided, weight.sum()
