"""The tokenizer: byte-level BPE in which each word of the world is one token."""

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from vllm_edit.factworld import protocol
from vllm_edit.factworld.wordings import RELATIONS, TWO_HOPS
from vllm_edit.factworld.world import World


def _words(world: World) -> list[str]:
    """All words of the training texts, as they appear in a sentence."""
    wordings = [w for relation in RELATIONS for w in relation.trained + relation.held_out]
    wordings += [question for hop in TWO_HOPS for question in hop.questions]
    names = [name for group in world.entities.values() for name in group]
    names += [
        name for groups in (world.fictional, world.unseen) for g in groups.values() for name in g
    ]
    lines = [
        protocol.NEW_FACT, protocol.PROMPT, protocol.QUESTION, protocol.SUBQUESTION,
        protocol.TENTATIVE, protocol.RETRIEVED, protocol.CONTRADICTION + "Yes. No.",
        protocol.INTERMEDIATE, protocol.FINAL,
    ]  # fmt: skip
    text = [protocol.fill(w, "") for w in wordings] + names + list(world.aliases.values())
    text += [*protocol.SYSTEM_PROMPTS, " is also known as"]
    # Each word once: the vocabulary must not depend on word frequencies.
    words = {word for line in text + lines for word in line.split()}
    starts = {line.split()[0] for line in lines}
    return sorted(words) + sorted("\n" + word for word in starts)


def train_tokenizer(world: World) -> Tokenizer:
    """A byte-level BPE tokenizer that prepends a BOS token and a space to a text.

    Every newline is a token of its own, so no token spans two lines.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("\n"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        show_progress=False,
        special_tokens=[
            AddedToken(token, special=True, normalized=False) for token in protocol.SPECIAL_TOKENS
        ],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_words(world), trainer)
    bos = (protocol.BOS, tokenizer.token_to_id(protocol.BOS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{protocol.BOS} $A", pair=f"{protocol.BOS} $A $B", special_tokens=[bos]
    )
    return tokenizer
