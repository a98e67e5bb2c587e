"""One edit with everything that it is judged by, whatever data it comes from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

OTHER_SUBJECTS = "other_subjects"
OTHER_RELATIONS = "other_relations"
DISTRACTING = "distracting_neighbour"
UNRELATED = "unrelated"
FORGETFULNESS = "forgetfulness"
LOCALITY = (OTHER_SUBJECTS, OTHER_RELATIONS, DISTRACTING, UNRELATED, FORGETFULNESS)
"""What must stay as it was: the relation of other subjects; other relations of the subject (Yao et
al. 2023, other attribution); other subjects with the new fact in front (Hoelscher-Obermaier et al.
2023, Yao et al. 2023); what has nothing to do with it; other objects of a one-to-many relation
(KnowEdit)."""

ALIAS = "alias"
REVERSED = "reversed_relation"
ONE_HOP = "one_hop"
MULTI_HOP = "multi_hop"
PORTABILITY = (ALIAS, REVERSED, ONE_HOP, MULTI_HOP)
"""What must follow from the edit: the same under another name of the subject (Yao et al. 2023,
subject replace); the relation asked from its new object; a question one step further; MQuAKE's
questions over several edited or unedited facts (Zhong et al. 2023)."""


@dataclass(frozen=True)
class RequestedRewrite:
    """A fact to write: `prompt` contains `subject`; afterwards `target_new` continues it.

    One that is not `judged` is overridden by the record that it comes before.
    """

    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None = None
    judged: bool = True


@dataclass(frozen=True)
class Probe:
    """A question in one wording or several, right if any is answered with any of the answers.

    The first answer is the one that a model is forced to give where it is scored by likelihood.
    ``hops`` says that it takes several hops to answer.
    """

    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    hops: bool = False


Probes = Mapping[str, tuple[Probe, ...]]
"""By kind."""


@dataclass(frozen=True)
class Record:
    """An edit and its probes; `case` names it within its data.

    `before` are further facts of the same case, written before it. `neighbourhood` are
    CounterFact's: prompts of the same relation for other subjects whose true object is
    `ground_truth`. `generation` are prompts for free text about the subject.
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

    @property
    def rewrite(self) -> RequestedRewrite:
        """The record's own fact."""
        return RequestedRewrite(self.prompt, self.subject, self.target_new, self.ground_truth)

    @property
    def rewrites(self) -> tuple[RequestedRewrite, ...]:
        """Every fact of the case, in the order in which they are written."""
        return (*self.before, self.rewrite)

    def probes(self) -> Iterator[tuple[str, str, Probe]]:
        """(group, kind, probe) of every locality and portability probe."""
        for group, probes in (("locality", self.locality), ("portability", self.portability)):
            for kind, found in probes.items():
                for probe in found:
                    yield group, kind, probe
