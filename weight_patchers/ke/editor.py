"""KnowledgeEditor's networks (De Cao et al. 2021, arXiv 2104.08164, section 3.3).

An LSTM in both directions reads "prediction >> alternative || input" and gives c. For each matrix
W [d_out, d_in] a network of c gives vectors and a gate:

    A = softmax(rows_a)^T cols_a,  B = softmax(rows_b)^T cols_b  (row vectors; outer products)
    W <- W + largest sigmoid(gate) (grad W * A + B)

The gradient is grad W = sum over t of delta_t x_t^T, and a Hadamard product with a matrix of rank
one keeps the rank: (delta x^T) * (r c^T) = (delta * r) (x * c)^T. So the update is a low-rank one,
of rank at most the number of tokens + 1, and no matrix of the size of W is made.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence

from weight_patchers.errors import ComputationFailed
from weight_patchers.ke.hparams import KeHparams
from weight_patchers.model.batch import Batch
from weight_patchers.trained.changes import Factors
from weight_patchers.trained.editor import Shapes, TrainedEditor
from weight_patchers.trained.gradients import GradientFactors, Gradients


class KeEditor(TrainedEditor):
    """One reader of texts, and a network for each matrix; see the module."""

    method = "ke"
    conditioned = True
    hparams_type = KeHparams

    def __init__(self, hparams: KeHparams, shapes: Shapes, embeddings: Tensor) -> None:
        super().__init__(hparams, shapes, embeddings)
        self.hparams = hparams
        self.reader = Reader(hparams, embeddings)
        self.networks = nn.ModuleDict(
            {str(layer): Network(*shapes[layer], hparams) for layer in sorted(shapes)}
        )

    def changes(self, gradients: Gradients, condition: Batch | None) -> dict[int, Factors]:
        if condition is None:
            raise ComputationFailed("KE reads the text of an edit beside its gradient")
        read = self.reader(condition)
        return {layer: self.networks[str(layer)](gradients[layer], read) for layer in gradients}


class Reader(nn.Module):
    """Reads a text: c = tanh(linear(last states of the LSTM in both directions)).

    Tokens are embedded as the base does; these embeddings stay the base's and are not stored.
    """

    embeddings: Tensor

    def __init__(self, hparams: KeHparams, embeddings: Tensor) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings.float(), persistent=False)
        self.lstm = nn.LSTM(
            embeddings.shape[1], hparams.hidden, batch_first=True, bidirectional=True
        )
        self.linear = nn.Linear(2 * hparams.hidden, hparams.condition)

    def forward(self, texts: Batch) -> Tensor:
        """c [edits, condition] of texts padded on the right."""
        lengths = texts.mask.sum(1).cpu()
        packed = pack_padded_sequence(
            self.embeddings[texts.ids], lengths, batch_first=True, enforce_sorted=False
        )
        _, (last, _) = self.lstm(packed)
        return torch.tanh(self.linear(last.transpose(0, 1).flatten(1)))


class Network(nn.Module):
    """The network of one matrix [d_out, d_in].

    Before training cols_a is -1 and cols_b is 0 for every text, so an untrained editor takes a step
    down the gradient.
    """

    def __init__(self, d_in: int, d_out: int, hparams: KeHparams) -> None:
        super().__init__()
        self.largest = hparams.largest
        self.sizes = [d_out, d_in, d_out, d_in, 1]
        self.layers = nn.Sequential(
            weight_norm(nn.Linear(hparams.condition, hparams.inner)),
            nn.Tanh(),
            weight_norm(nn.Linear(hparams.inner, sum(self.sizes))),
        )
        _, cols_a, _, cols_b, _ = torch.arange(sum(self.sizes)).split(self.sizes)
        last = cast("Any", self.layers[-1])
        with torch.no_grad():
            # weight_norm's first parameter is the length of each row of the weight.
            last.parametrizations.weight.original0[torch.cat([cols_a, cols_b])] = 0.0
            last.bias[cols_a], last.bias[cols_b] = -1.0, 0.0

    def forward(self, gradient: GradientFactors, read: Tensor) -> Factors:
        """The update in factors, of rank at most the number of tokens + 1."""
        rows_a, cols_a, rows_b, cols_b, gate = self.layers(read).split(self.sizes, dim=-1)
        rows_a, rows_b = rows_a.softmax(-1), rows_b.softmax(-1)
        factor = self.largest * gate.sigmoid()[:, None, :]
        u = torch.cat([gradient.delta * rows_a[:, None], rows_b[:, None]], dim=1) * factor
        v = torch.cat([gradient.x * cols_a[:, None], cols_b[:, None]], dim=1)
        return Factors(u.transpose(1, 2), v.transpose(1, 2))
