"""Merged checkpoints and adapters, loaded again as anybody would load them."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from tests.weight_patchers.conftest import DENSE, BuildModel
from tests.weight_patchers.model.test_extra_units import units as extra_units
from weight_patchers import Delta, Dense, LowRank, Neurons, applied, fingerprint
from weight_patchers.errors import CannotExport, CorruptDelta, UnreadableCheckpoint, WrongBase
from weight_patchers.export import to_checkpoint, to_peft
from weight_patchers.model.layers import Projection, projection
from weight_patchers.model.mlp import mlp

LAYERS = (0, 2)
INPUTS = torch.tensor([[5, 17, 42, 3, 99, 8]])

Save = Callable[..., Path]


@pytest.fixture
def save(build_model: BuildModel, tokenizer: Tokenizer, tmp_path: Path) -> Save:
    """A function that saves a model of a family with its tokenizer; returns the folder."""

    def saved(
        family: str, dtype: torch.dtype = torch.float32, shard: str = "1GB", headless: bool = False
    ) -> Path:
        folder = tmp_path / "base"
        model = build_model(family, dtype)
        part = model.base_model if headless else model
        part.save_pretrained(folder, max_shard_size=shard)
        tokenizer.save_pretrained(folder)
        return folder

    return saved


def load(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return model.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(INPUTS).logits
    return found


def low_rank(target: Projection, rank: int, seed: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(d, rank, generator=generator) for d in (target.d_out, target.d_in))
    return LowRank(u / 4, v / 4, target.transposed)


def dense(target: Projection, seed: int) -> Dense:
    generator = torch.Generator().manual_seed(seed)
    update = torch.randn(target.d_out, target.d_in, generator=generator)
    return Dense(update / 4, target.transposed)


def delta(base: Path, **changes: LowRank | Dense) -> Delta:
    return Delta(fingerprint(base), "memit", {}, changes, ())


def low_rank_deltas(base: Path) -> list[Delta]:
    """Two deltas: both change one layer, one of them another too, all with different ranks."""
    first, second = (projection(load(base), layer) for layer in LAYERS)
    return [
        delta(base, **{first.name: low_rank(first, 1, 1)}),
        delta(base, **{first.name: low_rank(first, 2, 2), second.name: low_rank(second, 1, 3)}),
    ]


def patched(base: Path, deltas: Sequence[Delta]) -> PreTrainedModel:
    """The base with the deltas in it, by hand."""
    model = load(base)
    for layer in LAYERS:
        target = projection(model, layer)
        changes = [d.changes[target.name].dense() for d in deltas if target.name in d.changes]
        target.write(target.matrix() + torch.stack(changes).sum(dim=0))
    return model


@pytest.mark.parametrize("family", DENSE)
def test_a_merged_checkpoint_is_the_patched_model(family: str, save: Save, tmp_path: Path) -> None:
    base, output = save(family), tmp_path / "new" / "merged"
    target = projection(load(base), LAYERS[0])
    deltas = [*low_rank_deltas(base), delta(base, **{target.name: dense(target, 4)})]
    to_checkpoint(deltas, base, output)
    before, after = logits(load(base)), logits(load(output))
    torch.testing.assert_close(after, logits(patched(base, deltas)))
    assert not torch.allclose(before, after, atol=1e-2)
    assert sorted(p.name for p in output.iterdir()) == sorted(p.name for p in base.iterdir())
    assert AutoTokenizer.from_pretrained(output)("Paris") == AutoTokenizer.from_pretrained(base)(
        "Paris"
    )


@pytest.mark.parametrize("family", ["llama", "gpt2", "gptj", "neox", "opt"])
def test_an_adapter_is_the_patched_model(family: str, save: Save, tmp_path: Path) -> None:
    base, output = save(family), tmp_path / "adapter"
    deltas = low_rank_deltas(base)
    written = to_peft(deltas, base, output)
    assert written.rank == 3
    assert set(written.relative_errors.values()) == {0.0}
    adapted = PeftModel.from_pretrained(load(base), output)
    expected = logits(patched(base, deltas))
    torch.testing.assert_close(logits(adapted), expected, rtol=1e-4, atol=1e-4)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-4)


def test_only_changed_tensors_change_and_keep_dtype_and_shard(save: Save, tmp_path: Path) -> None:
    base, output = save("llama", torch.bfloat16, shard="30KB"), tmp_path / "merged"
    deltas = low_rank_deltas(base)
    to_checkpoint(deltas, base, output)
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 2
    changed = set()
    for shard in shards:
        before, after = load_file(base / shard), load_file(output / shard)
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            parts = [d.changes[name].dense() for d in deltas if name in d.changes]
            if parts:
                total = tensor.float() + torch.stack(parts).sum(dim=0)
                assert torch.equal(after[name], total.bfloat16())
                changed.add(name)
            else:
                assert torch.equal(after[name], tensor)
                assert after[name].dtype == torch.bfloat16
    assert changed == deltas[1].changes.keys()
    index = "model.safetensors.index.json"
    assert (output / index).read_bytes() == (base / index).read_bytes()


@pytest.mark.parametrize("stored", [1, 2])
@pytest.mark.parametrize("name", ["lm_head.weight", "model.decoder.embed_tokens.weight"])
def test_tied_weights_stay_tied(name: str, stored: int, save: Save, tmp_path: Path) -> None:
    base, output = save("opt"), tmp_path / "merged"
    embedding = load(base).get_input_embeddings().weight.detach()
    if stored == 2:
        tensors = load_file(base / "model.safetensors")
        both = tensors | {"lm_head.weight": embedding.clone()}
        save_file(both, base / "model.safetensors", metadata={"format": "pt"})
    update = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(0))
    to_checkpoint([delta(base, **{name: Dense(update)})], base, output)
    model = load(output)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert torch.equal(module.weight, embedding + update)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_checkpoint_without_the_head_has_names_of_its_own(
    family: str, save: Save, tmp_path: Path
) -> None:
    base, output = save(family, headless=True), tmp_path / "merged"
    config = json.loads((base / "config.json").read_text()) | {"tie_word_embeddings": True}
    (base / "config.json").write_text(json.dumps(config))
    deltas = low_rank_deltas(base)
    assert not deltas[0].changes.keys() & load_file(base / "model.safetensors").keys()
    to_checkpoint(deltas, base, output)
    torch.testing.assert_close(logits(load(output)), logits(patched(base, deltas)))


def test_other_weights_are_left_out_and_all_else_is_there(save: Save, tmp_path: Path) -> None:
    base, output = save("llama"), tmp_path / "merged"
    kept = ["chat_template.jinja", "vocab.model", "additional_chat_templates/rag.jinja"]
    left_out = ["pytorch_model.bin", "pytorch_model.bin.index.json", "original/weights.pth"]
    for name in (*kept, *left_out, ".cache/x", "consolidated.safetensors"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(name)
    stored = tmp_path / "blob"
    shutil.move(base / "model.safetensors", stored)
    (base / "model.safetensors").symlink_to(stored)
    before = stored.read_bytes()
    to_checkpoint(low_rank_deltas(base), base, output)
    found = {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}
    assert found >= {*kept, "config.json", "generation_config.json", "tokenizer.json"}
    assert not found & {*left_out, ".cache/x", "consolidated.safetensors"}
    assert not (output / "model.safetensors").is_symlink()
    assert stored.read_bytes() == before


def test_a_dense_delta_is_an_adapter_only_by_approximation(save: Save, tmp_path: Path) -> None:
    base, output = save("gpt2"), tmp_path / "adapter"
    target = projection(load(base), 1)
    full = dense(target, 1)
    deltas = [delta(base, **{target.name: full})]
    with pytest.raises(CannotExport, match="merged checkpoint"):
        to_peft(deltas, base, output)
    rank = 8
    written = to_peft(deltas, base, output, rank=rank)
    tensors = load_file(output / "adapter_model.safetensors")
    a, b = (next(t for name, t in tensors.items() if f"lora_{side}" in name) for side in "AB")
    assert (a.shape, b.shape) == ((rank, target.d_in), (target.d_out, rank))
    error = (b @ a - full.update).norm() / full.update.norm()
    assert written.relative_errors == {target.name: pytest.approx(float(error), rel=1e-4)}
    assert 0.1 < error < 0.9
    exact = to_peft(deltas, base, tmp_path / "exact", rank=target.d_out)
    assert exact.relative_errors[target.name] < 1e-5


def test_a_rank_narrows_only_what_is_wider(save: Save, tmp_path: Path) -> None:
    base = save("llama")
    written = to_peft(low_rank_deltas(base), base, tmp_path / "adapter", rank=2)
    assert written.rank == 2
    wide, narrow = (projection(load(base), layer).name for layer in LAYERS)
    assert 0.0 < written.relative_errors[wide] < 1.0
    assert written.relative_errors[narrow] == 0.0
    with pytest.raises(CannotExport, match="rank 0"):
        to_peft(low_rank_deltas(base), base, tmp_path / "none", rank=0)


def test_only_untied_linear_maps_become_adapters(save: Save, tmp_path: Path) -> None:
    base = save("opt")
    rows, columns = load(base).get_input_embeddings().weight.shape
    for name in ("lm_head.weight", "model.decoder.embed_tokens.weight"):
        change = LowRank(torch.ones(rows, 1), torch.ones(columns, 1))
        with pytest.raises(CannotExport, match="untied linear map"):
            to_peft([delta(base, **{name: change})], base, tmp_path / "adapter")


@pytest.fixture(params=[to_checkpoint, to_peft])
def export(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Either export to a folder of which nothing may be seen in the end."""
    output = tmp_path / "output"
    yield lambda deltas, base: request.param(deltas, base, output)
    assert {path.name for path in tmp_path.iterdir()} == {"base"}


def test_what_does_not_fit_the_base_is_refused(export: Callable[..., None], save: Save) -> None:
    base = save("llama")
    (good, *_) = low_rank_deltas(base)
    (name,) = good.changes
    small = LowRank(torch.ones(3, 1), torch.ones(5, 1))
    with pytest.raises(WrongBase, match="compute the edit again"):
        export([good, replace(good, fingerprint="f" * 64)], base)
    for changes in ({"model.nowhere.weight": good.changes[name]}, {name: small}):
        with pytest.raises(CorruptDelta, match="which the base has not"):
            export([good, replace(good, changes=changes)], base)
    for nothing in ([], [replace(good, changes={})]):
        with pytest.raises(CannotExport, match="no delta"):
            export(nothing, base)
    (base / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(UnreadableCheckpoint, match="unheard-of"):
        export([replace(good, fingerprint=fingerprint(base))], base)


def test_an_output_in_the_way_stays_as_it_is(save: Save, tmp_path: Path) -> None:
    base = save("llama")
    deltas = low_rank_deltas(base)
    occupied, file, empty = (tmp_path / name for name in ("occupied", "file", "empty"))
    occupied.mkdir()
    (occupied / "precious").touch()
    file.touch()
    empty.mkdir()
    for write in (to_checkpoint, to_peft):
        for output in (occupied, file):
            with pytest.raises(CannotExport, match="not an empty folder"):
                write(deltas, base, output)
    with pytest.raises(CannotExport, match="outside"):
        to_checkpoint(deltas, base, base / "merged")
    to_checkpoint(deltas, base, empty)
    assert (empty / "config.json").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"base", "occupied", "file", "empty"}


def test_an_overflow_leaves_nothing(save: Save, tmp_path: Path) -> None:
    base = save("llama", torch.float16)
    target = projection(load(base), 1)
    huge = Dense(torch.full((target.d_out, target.d_in), 1e6))
    with pytest.raises(CannotExport, match="too large for torch"):
        to_checkpoint([delta(base, **{target.name: huge})], base, tmp_path / "merged")
    assert {path.name for path in tmp_path.iterdir()} == {"base"}


@pytest.mark.parametrize("family", DENSE)
def test_a_checkpoint_grows_by_extra_units(family: str, save: Save, tmp_path: Path) -> None:
    """Loaded again it answers as the base with the units beside it, and a change of a matrix."""
    base, output = save(family), tmp_path / "merged"
    model = load(base)
    target = mlp(model, 1)
    units = extra_units(target, 3)
    deltas = [
        Delta(fingerprint(base), "t-patcher", {}, {target.name: units}, ()),
        delta(base, **{target.output.name: low_rank(target.output, 1, 1)}),
    ]
    before = logits(model)
    with applied(model, deltas):
        expected = logits(model)
    to_checkpoint(deltas, base, output)
    grown = load(output)
    torch.testing.assert_close(logits(grown), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-2)
    assert projection(grown, 0).d_in == projection(grown, 1).d_in == target.output.d_in + 64
    assert not (projection(grown, 0).matrix()[:, target.output.d_in :]).any()


def test_extra_units_are_no_adapter(save: Save, tmp_path: Path) -> None:
    base = save("llama")
    units = extra_units(mlp(load(base), 1), 1)
    change = Delta(fingerprint(base), "t-patcher", {}, {"model.layers.1.mlp": units}, ())
    with pytest.raises(CannotExport, match=r"extra inner units of model\.layers\.1\.mlp") as raised:
        to_peft([change], base, tmp_path / "adapter", rank=4)
    assert raised.value.code == "cannot_export"


def test_extra_units_need_mlps_that_can_grow(save: Save, tmp_path: Path) -> None:
    base, ones = save("mixtral"), torch.ones(32, 1)
    units = Neurons(g=ones, u=ones, v=ones)
    change = Delta(fingerprint(base), "t-patcher", {}, {"model.layers.1.mlp": units}, ())
    with pytest.raises(CannotExport, match="mixture of experts"):
        to_checkpoint([change], base, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
