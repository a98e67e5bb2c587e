"""A small random model with a checkpoint folder of its own, and editor processes over it."""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vllm_edit.editor.client import EditorClient, EditorOptions

LINES = [
    "The capital of France is Paris.",
    "Anna Berg was born in Oslo and works for Novatech.",
    "The capital of Peru is Lima; Novatech is based in Lima.",
]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(LINES, trainer)
    PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=raw.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A private folder with a short path, as sockets need."""
    with tempfile.TemporaryDirectory(prefix="editor-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n\n".join(f"{i} {line}" for i in range(60) for line in LINES))
    return path


@pytest.fixture
def options(model: Path, sockets: Path, text: Path, tmp_path: Path) -> EditorOptions:
    return EditorOptions(model, sockets, tmp_path / "statistics", text=text, timeout=120.0)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[EditorOptions], EditorClient]]:
    """A function that makes clients; their processes end with the test."""
    clients: list[EditorClient] = []

    def make(options: EditorOptions) -> EditorClient:
        clients.append(EditorClient(options))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()
