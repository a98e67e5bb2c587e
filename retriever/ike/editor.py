"""IKE: puts facts and demonstrations in front of a request (Zheng et al. 2023)."""

from collections.abc import Callable, Sequence

from retriever.decision import Message, Messages
from retriever.fact import Fact
from retriever.ike.demonstrations import Demonstration, DemonstrationStore
from retriever.ike.prompt import demonstrated, prefix_message, restated, shown_facts, text_of
from retriever.ike.prompt_form import PromptForm
from retriever.ike.settings import IkeSettings
from retriever.text import with_full_stop

CountTokens = Callable[[str], int]


def guess_tokens(text: str) -> int:
    """Estimate a text's tokens without a tokenizer: one per four characters."""
    return -(-len(text) // 4)


class Ike:
    """Puts facts in front of requests. Thread-safe."""

    def __init__(
        self,
        demonstrations: DemonstrationStore,
        settings: IkeSettings | None = None,
        count_tokens: CountTokens = guess_tokens,
    ) -> None:
        self._demonstrations = demonstrations
        self._settings = settings or IkeSettings()
        self._count = count_tokens

    def load(self) -> None:
        """Encode the demonstrations now, not at the first request."""
        if self._settings.choice == "nearest":
            self._demonstrations.load()

    @property
    def max_tokens(self) -> int:
        """See `IkeSettings.max_tokens`."""
        return self._settings.max_tokens

    def least_tokens(self, fact: Fact) -> int:
        """The tokens that the fact takes where nothing else stands in front of a request."""
        forms = self._settings.forms
        alone = (shown_facts(f, [fact], None) + f.request_label for f in (forms.text, forms.chat))
        return max(map(self._count, alone))

    def in_text(self, facts: Sequence[Fact], text: str, room: int | None = None) -> tuple[str, int]:
        """The text behind its facts, and how many of them fit. `facts` come best first.

        `room` is the number of tokens that there is for them; none are put in front if the best
        one needs more. None stands for no limit but that of the settings.
        """
        form = self._settings.forms.text
        prefix, kept = self._fitting(form, facts, text, form.request_label, form.exchanges, room)
        return prefix + text, kept

    def in_chat(
        self, facts: Sequence[Fact], messages: Messages, turn: int, room: int | None = None
    ) -> tuple[Messages, int]:
        """The same for a chat: in front of that turn's text or in the system message.

        The form may also ask for earlier exchanges in which the turn was answered.
        """
        form = self._settings.forms.chat
        in_system = (self._settings.slot or form.slot) == "system"
        request = text_of(messages[turn])
        label = "" if in_system else form.request_label
        prefix, kept = self._fitting(form, facts, request, label, room=room)
        if not kept:
            return messages, 0
        asked = messages[turn] if in_system else prefix_message(messages[turn], prefix)
        exchanges = self._exchanges(form, facts[0], asked, request, prefix, room)
        changed = (*messages[:turn], *exchanges, asked, *messages[turn + 1 :])
        return (_with_system(changed, prefix) if in_system else changed), kept

    def _exchanges(
        self,
        form: PromptForm,
        fact: Fact,
        asked: Message,
        request: str,
        prefix: str,
        room: int | None,
    ) -> Messages:
        """The turn, answered by the fact, as often as the form says; none if there is no room."""
        if not form.exchanges or restated(request, fact) is None:
            return ()
        if not isinstance(asked["content"], str):
            # It may hold an image, which takes more room than is counted here.
            return ()
        answer = with_full_stop(fact.target_new)
        each = self._count(f"{asked['content']}\n{answer}")
        if self._count(prefix) + form.exchanges * each > self._most(room):
            return ()
        return (asked, {"role": "assistant", "content": answer}) * form.exchanges

    def _fitting(
        self,
        form: PromptForm,
        facts: Sequence[Fact],
        request: str,
        label: str,
        exchanges: int = 0,
        room: int | None = None,
    ) -> tuple[str, int]:
        """What stands in front of the request, and how many facts it shows."""
        chosen, kept = self._chosen(form, facts), list(facts)
        again = restated(request, facts[0])
        while True:
            shown = shown_facts(form, kept, again)
            answered = f"{shown}{label}{again}\n\n" * exchanges if again else ""
            parts = [demonstrated(form, chosen), answered + shown]
            if self._settings.order == "facts" and chosen:
                # The request must follow its facts: they stand behind the demonstrations too.
                parts.insert(0, f"{shown}\n")
            prefix = "".join(parts) + label
            tokens = self._count(prefix)
            if tokens <= self._most(room):
                return prefix, len(kept)
            if chosen:
                # The nearest are last; of fixed ones a prefix cache holds the first.
                chosen = chosen[:-1] if self._settings.choice == "fixed" else chosen[1:]
            elif len(kept) > 1:
                kept.pop()
            elif again:
                again = None
            elif room is None or tokens <= room:
                return prefix, len(kept)
            else:
                return "", 0

    def _most(self, room: int | None) -> int:
        most = self._settings.max_tokens
        return most if room is None else min(most, room)

    def _chosen(self, form: PromptForm, facts: Sequence[Fact]) -> Sequence[Demonstration]:
        most = self._settings.demonstrations
        if most is None:
            most = form.demonstrations
        edited = [name for fact in facts for name in fact.names]
        if self._settings.choice == "fixed":
            return self._demonstrations.first(most, edited)
        return self._demonstrations.nearest(facts[0].prompt, most, edited)


def _with_system(messages: Messages, text: str) -> Messages:
    if messages[0].get("role") == "system":
        return (prefix_message(messages[0], f"{text}\n"), *messages[1:])
    return ({"role": "system", "content": text}, *messages)
