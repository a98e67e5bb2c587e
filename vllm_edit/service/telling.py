"""Which edits the server tells, asked as it serves, and again when later changes may matter."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from vllm_edit.domain.edit import Edit, Status
from vllm_edit.domain.errors import NotTold
from vllm_edit.domain.method import Method, MethodChange
from vllm_edit.domain.own_answers import OwnAnswers
from vllm_edit.domain.variant import DEFAULT
from vllm_edit.ledger import Ledger
from vllm_edit.probes.gate import quoted
from vllm_edit.probes.metrics import NOT_TOLD, WAITING
from vllm_edit.probes.teller import Teller

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 32
"""Memory edits of one list that are asked before they are acknowledged; the others are asked in
the background, so that many facts can be loaded at once. Of new weight edits all are asked, and so
many as chats too."""


MOST_WAITING = 1000
"""Edits that wait to be asked for the first time; beyond these, edits stay unasked."""


@dataclass(frozen=True)
class Touched:
    """What a change may have altered: answers about subjects, and names of weights."""

    variants: frozenset[str]
    subjects: frozenset[str]
    places: frozenset[str]
    edit_ids: frozenset[str]
    """The edits that came or left."""

    def affects(self, edit: Edit, variants: Iterable[str], places: frozenset[str]) -> bool:
        """Whether the server may answer otherwise now to the prompt of an active edit."""
        return (
            edit.id not in self.edit_ids
            and not self.variants.isdisjoint(variants)
            and not (self.subjects.isdisjoint(_subjects(edit)) and self.places.isdisjoint(places))
        )


@dataclass
class _Active:
    """The active edits that can be asked, the latest last."""

    edits: dict[str, Edit] = field(default_factory=dict)
    by_subject: dict[str, dict[str, None]] = field(default_factory=dict)
    with_places: dict[str, None] = field(default_factory=dict)


class Telling:
    """Asks about edits in effect with ``teller``; without one, about none.

    ``update`` must get every state that an edit enters. At most ``most`` edits are asked again
    after a change. Nothing may take effect while it asks. Lives on one event loop.
    """

    def __init__(
        self,
        ledger: Ledger,
        methods: Mapping[str, Method],
        teller: Teller | None,
        most: int = MOST_AT_ONCE,
    ) -> None:
        self._ledger = ledger
        self._methods = methods
        self._teller = teller
        self._most = most
        self._latest: dict[str, OwnAnswers] = {}
        self._not_told: defaultdict[str, set[str]] = defaultdict(set)
        self._wake = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        """Forget the edits, before all of them are taken in again."""
        self._active = _Active()
        self._latest.clear()
        for method in self._not_told:
            NOT_TOLD.labels(method).set(0)
        self._not_told.clear()
        self._new: dict[str, None] = {}
        self._again: list[str] = []

    def update(self, edit: Edit) -> None:
        """Take in the present state of an edit."""
        if self._teller is None or edit.request.method not in self._methods:
            return
        method = self._methods[edit.request.method]
        if edit.request.method not in method.asked:
            return
        active = edit.status is Status.ACTIVE
        if active != (edit.id in self._active.edits):
            self._index(edit, method, active)
        elif active:
            self._active.edits[edit.id] = edit
        if not active:
            self._latest.pop(edit.id, None)
            self._new.pop(edit.id, None)
        self._count(edit, active and edit.told is not None and edit.told.begins is False)

    def told(self, edit: Edit) -> OwnAnswers | None:
        """What the server answered when it was last asked."""
        return self._latest.get(edit.id, edit.told)

    def warnings(self, edit: Edit) -> list[str]:
        """What to know about the answers to the prompt of an active edit."""
        told = self.told(edit)
        if told is None or edit.status is not Status.ACTIVE:
            return []
        if told.begins is False:
            return [f"It is not told: {_otherwise(edit, told)}."]
        return [f"It could not be asked: {told.refused}"] if told.begins is None else []

    async def ask(
        self, change: MethodChange, revision: int, settled: bool = False
    ) -> Mapping[str, OwnAnswers]:
        """Ask about the coming edits, which are in effect; returns the answers by id.

        Raises NotTold if an edit must not stay in effect. With ``settled`` the edits were active
        elsewhere before: those that were not told there may stay, and if they are many, not all are
        asked.
        """
        if self._teller is None or not change.coming:
            return {}
        method = self._methods[change.coming[0].request.method]
        variant = _asked_variant(change.variants)
        askable = [edit for edit in change.coming if edit.request.method in method.asked]
        every = method.queued and not settled
        first = askable if every else askable[:MOST_AT_ONCE]
        told = {
            edit.id: await self._teller.ask(edit, variant, revision, chat=number < MOST_AT_ONCE)
            for number, edit in enumerate(first)
        }
        reasons = {
            edit.id: _reason(edit, told[edit.id])
            for edit in first
            if told[edit.id].begins is False
            and edit.request.method in method.must_tell
            and not edit.request.keep
            and not (settled and edit.told is not None and edit.told.begins is False)
        }
        if reasons:
            raise NotTold(next(iter(reasons.values())), reasons=reasons, told=told)
        for edit in first:
            if told[edit.id].begins is False:
                logger.warning("%s is not told: %s.", edit.id, _otherwise(edit, told[edit.id]))
        return told

    def places(self, edits: Iterable[Edit]) -> frozenset[str]:
        """The names of weights that edits in effect change."""
        found = (self._methods[edit.request.method].places(edit.id) for edit in edits)
        return frozenset().union(*found)

    def changed(self, change: MethodChange, places: frozenset[str]) -> None:
        """Have other edits asked again that the change, in effect now, may have affected.

        ``places`` are those of the edits that came or left.
        """
        if self._teller is None:
            return
        edits = [*change.coming, *change.leaving]
        touched = Touched(
            frozenset(change.variants),
            frozenset(subject for edit in edits for subject in _subjects(edit)),
            places,
            frozenset(edit.id for edit in edits),
        )
        affected = islice(self._affected(touched), self._most)
        self._again = [*dict.fromkeys([*affected, *self._again])][: self._most]
        self._show_waiting()

    def ask_later(self, edit_ids: Iterable[str]) -> None:
        """Have active edits asked in the background, as many as may wait."""
        active = (edit_id for edit_id in edit_ids if edit_id in self._active.edits)
        self._new |= dict.fromkeys(islice(active, MOST_WAITING - len(self._new)))
        self._show_waiting()

    def ask_unasked(self, edits: Iterable[Edit]) -> None:
        """Have those of the edits asked in the background that never were, or not as a chat."""
        self.ask_later(
            edit.id for edit in edits if edit.told is None or self._lacks_chat(edit.told)
        )

    def ask_latest_unasked(self, edits: Sequence[Edit]) -> None:
        """The same at a start, for the latest ones; those too whose variant could not be asked."""
        unasked = (e.id for e in reversed(edits) if e.told is None or e.told.begins is None)
        active = (edit_id for edit_id in unasked if edit_id in self._active.edits)
        self.ask_later(islice(active, self._most))

    def _lacks_chat(self, told: OwnAnswers) -> bool:
        chats = self._teller is not None and self._teller.chats
        return chats and told.bare is not None and told.chat is None and not told.refused

    async def next(self) -> str:
        """Wait for an edit that is to be asked in the background."""
        while not (self._again or self._new):
            WAITING.set(0)
            self._wake.clear()
            await self._wake.wait()
        edit_id = self._again[0] if self._again else next(iter(self._new))
        self._again = self._again[1:]
        self._new.pop(edit_id, None)
        return edit_id

    def _show_waiting(self) -> None:
        WAITING.set(len({*self._again, *self._new}))
        self._wake.set()

    async def ask_again(self, edit: Edit) -> OwnAnswers | None:
        """Ask about an active edit; returns the answers if they are to be recorded, see `news`."""
        if self._teller is None or edit.id not in self._active.edits:
            return None
        variant = _asked_variant(self._ledger.variants_of(edit))
        told = await self._teller.ask(edit, variant, self._ledger.revision)
        before = self.told(edit)
        if told.begins is False and (before is None or before.begins is not False):
            longer = "no longer" if before is not None and before.begins else "not"
            logger.warning("%s is %s told: %s.", edit.id, longer, _otherwise(edit, told))
        return self.news(edit, told)

    def news(self, edit: Edit, told: OwnAnswers) -> OwnAnswers | None:
        """The latest answers about an active edit, if they are to be recorded.

        Answers that say the same as those in the ledger are kept here only.
        """
        if edit.told is not None and _verdict(told) == _verdict(edit.told):
            self._latest[edit.id] = told
            return None
        self._latest.pop(edit.id, None)
        return told

    def _index(self, edit: Edit, method: Method, active: bool) -> None:
        subjects = self._active.by_subject
        for subject in _subjects(edit):
            if active:
                subjects.setdefault(subject, {})[edit.id] = None
            elif subject in subjects:
                subjects[subject].pop(edit.id, None)
                if not subjects[subject]:
                    del subjects[subject]
        if active:
            self._active.edits[edit.id] = edit
            if method.queued:
                self._active.with_places[edit.id] = None
        else:
            del self._active.edits[edit.id]
            self._active.with_places.pop(edit.id, None)

    def _count(self, edit: Edit, not_told: bool) -> None:
        """Keep the metric of active edits that are not told."""
        method = edit.request.method
        if not_told == (edit.id in self._not_told[method]):
            return
        self._not_told[method] ^= {edit.id}
        NOT_TOLD.labels(method).set(len(self._not_told[method]))

    def _affected(self, touched: Touched) -> Iterator[str]:
        """The active edits that a change may have affected: those of its subjects, then those of
        its weights, the latest first."""
        of_subjects = (
            edit_id
            for subject in touched.subjects
            for edit_id in reversed(self._active.by_subject.get(subject, {}))
        )
        of_weights = reversed(self._active.with_places) if touched.places else ()
        for edit_id in dict.fromkeys([*of_subjects, *of_weights]):
            edit = self._active.edits[edit_id]
            if touched.affects(edit, self._ledger.variants_of(edit), self.places([edit])):
                yield edit_id


def _asked_variant(variants: Sequence[str]) -> str:
    """Of the variants in which an edit is served, the one that most requests see."""
    return DEFAULT if DEFAULT in variants else variants[0]


def _subjects(edit: Edit) -> set[str]:
    return {name.casefold() for name in (edit.request.subject, *edit.request.aliases)}


def _verdict(told: OwnAnswers) -> Hashable:
    chat = None if told.chat is None else told.chat.begins
    return told.variant, told.begins, chat


def _otherwise(edit: Edit, told: OwnAnswers) -> str:
    prompt = quoted(edit.request.prompt)
    if told.bare is None or (told.refused and not told.bare.answer):
        return f"{prompt} could not be asked ({told.refused.rstrip('.')})"
    return (
        f"asked {prompt}, the server answers {quoted(told.bare.answer)}, which does not begin with "
        f"{quoted(edit.request.target_new)}"
    )


def _reason(edit: Edit, told: OwnAnswers) -> str:
    return (
        f"With it in effect, {_otherwise(edit, told)}. Word the prompt so that "
        "the target continues it, use another method or other values for it, or post it with "
        '"keep": true to have it as it is.'
    )
