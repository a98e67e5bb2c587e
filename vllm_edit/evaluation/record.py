"""One edit with all its probes, independent of the data format."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

OTHER_SUBJECTS = "other_subjects"
OTHER_RELATIONS = "other_relations"
DISTRACTING = "distracting_neighbour"
UNRELATED = "unrelated"
FORGETFULNESS = "forgetfulness"
LOCALITY = (OTHER_SUBJECTS, OTHER_RELATIONS, DISTRACTING, UNRELATED, FORGETFULNESS)
"""Kinds of answers that must not change: the same relation of other subjects; other relations of
the subject (Yao et al. 2023, other attribution); other subjects after the new fact
(Hoelscher-Obermaier et al. 2023, Yao et al. 2023); unrelated facts; other objects of a one-to-many
relation (KnowEdit)."""

ALIAS = "alias"
REVERSED = "reversed_relation"
ONE_HOP = "one_hop"
MULTI_HOP = "multi_hop"
PERSONA = "persona"
PARTS = "parts"
PORTABILITY = (ALIAS, REVERSED, ONE_HOP, MULTI_HOP, PERSONA, PARTS)
"""Kinds of answers that must follow from the edit: the same fact under another name of the subject
(Yao et al. 2023, subject replace); the reverse relation of the new object; a question one hop
further; MQuAKE's questions over several edited or unedited facts (Zhong et al. 2023); the question
in the words of some character (WikiBigEdit, Thede et al. 2025); the single statements of a fact
that is a paragraph (UnKE, Deng et al. 2025; AKEW, Wu et al. 2024)."""


@dataclass(frozen=True)
class RequestedRewrite:
    """A fact to write: after the edit, `target_new` continues `prompt`, which contains `subject`.

    It is not `judged` if its record's own fact overrides it.
    """

    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None = None
    judged: bool = True


@dataclass(frozen=True)
class Probe:
    """A question in one or more wordings. Any of `answers` to any wording is right.

    Teacher forcing uses the first answer. `hops`: the question needs several hops.
    """

    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    hops: bool = False


Probes = Mapping[str, tuple[Probe, ...]]
"""By kind."""


@dataclass(frozen=True)
class Record:
    """An edit and its probes; `case` names it within its data.

    `before`: other facts of the case, written before this one. `neighbourhood`: CounterFact's
    prompts of the same relation for other subjects whose true object is `ground_truth`.
    `generation`: prompts for free text about the subject. `other_answer`: a wrong answer to the
    prompt after the edit, the true one before it if that is known.
    """

    case: str
    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None = None
    rephrasings: tuple[str, ...] = ()
    locality: Probes = field(default_factory=dict)
    portability: Probes = field(default_factory=dict)
    neighbourhood: tuple[str, ...] = ()
    generation: tuple[str, ...] = ()
    before: tuple[RequestedRewrite, ...] = ()
    other_answer: str | None = None

    @property
    def rewrite(self) -> RequestedRewrite:
        """The record's own fact."""
        return RequestedRewrite(self.prompt, self.subject, self.target_new, self.ground_truth)

    @property
    def rewrites(self) -> tuple[RequestedRewrite, ...]:
        """All facts of the case, in the order of writing."""
        return (*self.before, self.rewrite)

    def probes(self) -> Iterator[tuple[str, str, Probe]]:
        """(group, kind, probe) of every locality and portability probe."""
        for group, probes in (("locality", self.locality), ("portability", self.portability)):
            for kind, probes_of_kind in probes.items():
                for probe in probes_of_kind:
                    yield group, kind, probe
