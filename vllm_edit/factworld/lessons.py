"""The training batches of each step."""

import random
from collections.abc import Iterator

from tokenizers import Tokenizer

from vllm_edit.factworld.documents import Document
from vllm_edit.factworld.recipe import TrainingRecipe
from vllm_edit.factworld.rows import Pieces, TrainingBatch, batch
from vllm_edit.factworld.world import World, WorldFact
from vllm_edit.factworld.writer import Writer

# Row lengths, and the approximate number of tokens of a batch.
SHORT, LONG, LONGEST = 96, 304, 512
MICRO = 912


class Lessons:
    """The batches of each step."""

    def __init__(self, world: World, tokenizer: Tokenizer, recipe: TrainingRecipe) -> None:
        self._rng = random.Random(recipe.seed)
        self._writer = Writer(world, self._rng)
        self._pieces = Pieces(tokenizer)
        self._recipe = recipe
        self._facts = self._epochs(world)

    def _epochs(self, world: World) -> Iterator[WorldFact]:
        facts = list(world.surfaces)
        while True:
            self._rng.shuffle(facts)
            yield from facts

    def _recall(self) -> Document:
        document = self._writer.closed([next(self._facts) for _ in range(10)])
        if self._rng.random() < 0.3:
            document.branches.insert(0, self._writer.alias())
        return document

    def batches(self, step: int, done: float) -> list[TrainingBatch]:
        """The step's batches, each of about MICRO tokens; `done` is the share of training done."""
        recipe, writer = self._recipe, self._writer
        given_document = writer.copied if done < recipe.copying_until else writer.given
        short = [self._recall() for _ in range(recipe.recall_rows)]
        short += [given_document(8) for _ in range(recipe.given_rows)]
        batches = self._micro(short, SHORT)
        if done >= recipe.edit_from and step % recipe.edit_every == 0:
            edited = [writer.edited(10) for _ in range(recipe.edited_rows)]
            batches.insert(0, batch(edited, self._pieces, self._rng, SHORT))
            batches[0].edited = True
        if done < recipe.long_from or step % recipe.long_every:
            return batches
        longest = step % 12 == 0
        share, length = (2, LONGEST) if longest else (1, LONG)
        most = 14 if longest else 6
        long = [
            writer.demonstrated(self._rng.randint(1, most), 16 * share)
            for _ in range(max(1, recipe.demonstration_rows // share))
        ]
        long += [self._mello(3 * share) for _ in range(max(1, recipe.mello_rows // share))]
        long += [writer.chat(16) for _ in range(recipe.chat_rows)]
        long += [writer.running(48) for _ in range(recipe.running_rows)]
        return self._micro(long, length) + batches

    def _micro(self, documents: list[Document], length: int) -> list[TrainingBatch]:
        self._rng.shuffle(documents)
        rows = max(1, MICRO // length)
        return [
            batch(documents[start : start + rows], self._pieces, self._rng, length)
            for start in range(0, len(documents), rows)
        ]

    def _mello(self, count: int) -> Document:
        start = self._writer.closed([]).prefix
        return Document(start, [self._writer.mello() for _ in range(count)])
