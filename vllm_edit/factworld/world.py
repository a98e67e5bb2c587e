"""The synthetic world: invented people, companies, countries and cities, and their facts."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from vllm_edit.factworld.wordings import BY_NAME, WORDS, Relation

COUNTRIES = 24
CITIES = 48
CONTINENTS = 6
PEOPLE = 140
COMPANIES = 40
ALIASED = {"person": 18, "company": 8}
NAME_PARTS = {"person": 22, "company": 10}
# Pairs for in-context training documents only, which also get all remaining pairs; and pairs that
# no training text contains.
FICTIONAL = {"person": 170, "company": 24}
UNSEEN = {"person": 60, "company": 12}

ONSETS = "b br d dr f g gr h j k kl l m n p pr r s st t tr v w z".split()
VOWELS = "a e i o u ai or an el".split()
CODAS = ["", "", "n", "r", "s", "l", "th", "k"]


@dataclass(frozen=True)
class WorldFact:
    """`relation` names a `wordings.Relation`; `subject` may be an alias."""

    subject: str
    relation: str
    object: str


@dataclass(frozen=True)
class World:
    """All true facts, and names without facts.

    `entities`, `fictional` and `unseen` map a kind (`person`, `company`, ...) to names.
    Fictional names have no facts; some training documents give them one in the prompt.
    Unseen names occur in no training text. `aliases` maps a name to its second name.
    """

    seed: int
    entities: dict[str, tuple[str, ...]]
    facts: tuple[WorldFact, ...]
    aliases: dict[str, str]
    fictional: dict[str, tuple[str, ...]]
    unseen: dict[str, tuple[str, ...]]

    @cached_property
    def _answers(self) -> dict[tuple[str, str], str]:
        answers = {(fact.subject, fact.relation): fact.object for fact in self.facts}
        for name, alias in self.aliases.items():
            answers |= {(alias, r): o for (s, r), o in answers.items() if s == name}
        return answers

    @cached_property
    def surfaces(self) -> tuple[WorldFact, ...]:
        """Every fact, once for each name of its subject."""
        return tuple(WorldFact(s, r, o) for (s, r), o in self._answers.items())

    @cached_property
    def _by_subject(self) -> dict[str, tuple[WorldFact, ...]]:
        return _grouped(self.surfaces, "subject")

    @cached_property
    def _by_relation(self) -> dict[str, tuple[WorldFact, ...]]:
        return _grouped(self.facts, "relation")

    @cached_property
    def names_with_facts(self) -> frozenset[str]:
        """All names and aliases of subjects that have facts."""
        return frozenset(self._by_subject)

    def answer(self, subject: str, relation: str) -> str | None:
        """The object of the relation, or None if the world has no such fact."""
        return self._answers.get((subject, relation))

    def about(self, subject: str) -> tuple[WorldFact, ...]:
        """The facts of a subject, given by its name or its alias."""
        return self._by_subject.get(subject, ())

    def of(self, relation: str) -> tuple[WorldFact, ...]:
        """The facts of a relation, without aliases."""
        return self._by_relation[relation]

    def objects(self, relation: Relation) -> tuple[str, ...]:
        """All possible objects of the relation."""
        return self.entities[relation.object_kind]


def _grouped(facts: tuple[WorldFact, ...], field: str) -> dict[str, tuple[WorldFact, ...]]:
    groups: dict[str, list[WorldFact]] = {}
    for fact in facts:
        groups.setdefault(getattr(fact, field), []).append(fact)
    return {key: tuple(group) for key, group in groups.items()}


def _names(rng: random.Random) -> Iterator[str]:
    """Different invented one-word names, none of which is a prefix of another."""
    given: set[str] = set()
    while True:
        syllables = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(2)]
        name = ("".join(syllables) + rng.choice(CODAS)).capitalize()
        if not any(name.startswith(other) or other.startswith(name) for other in given):
            given.add(name)
            yield name


def _pairs(rng: random.Random, names: Iterator[str], parts: int) -> list[str]:
    """All two-word names of a grid, shuffled. No word alone identifies a name."""
    first = [next(names) for _ in range(parts)]
    last = [next(names) for _ in range(parts)]
    pairs = [f"{a} {b}" for a, b in product(first, last)]
    rng.shuffle(pairs)
    return pairs


def _take(pool: list[str], count: int) -> tuple[str, ...]:
    taken, pool[:] = tuple(pool[:count]), pool[count:]
    return taken


def build_world(seed: int = 0) -> World:
    """The world of a seed. The bundled model is trained on seed 0."""
    rng = random.Random(seed)
    names = _names(rng)

    def invent(count: int) -> tuple[str, ...]:
        return tuple(next(names) for _ in range(count))

    entities: dict[str, tuple[str, ...]] = {
        "country": invent(COUNTRIES),
        "city": invent(CITIES),
        "continent": invent(CONTINENTS),
        "language": invent(COUNTRIES),
        "currency": invent(COUNTRIES),
        **WORDS,
    }
    aliases: dict[str, str] = {}
    fictional: dict[str, tuple[str, ...]] = {}
    unseen: dict[str, tuple[str, ...]] = {}
    for kind, count in (("person", PEOPLE), ("company", COMPANIES)):
        pool = _pairs(rng, names, NAME_PARTS[kind])
        entities[kind] = _take(pool, count)
        aliases |= dict(zip(entities[kind], _take(pool, ALIASED[kind]), strict=False))
        fictional[kind] = _take(pool, FICTIONAL[kind])
        unseen[kind] = _take(pool, UNSEEN[kind])
        fictional[kind] += _take(pool, len(pool))
    return World(seed, entities, tuple(_facts(rng, entities)), aliases, fictional, unseen)


def _facts(rng: random.Random, entities: dict[str, tuple[str, ...]]) -> Iterator[WorldFact]:
    def any_of(relation: str) -> str:
        return rng.choice(entities[BY_NAME[relation].object_kind])

    cities = rng.sample(entities["city"], CITIES)
    ceos = rng.sample(entities["person"], COMPANIES)
    for person in entities["person"]:
        for relation in ("birthplace", "employer", "profession", "mother_tongue", "sport"):
            yield WorldFact(person, relation, any_of(relation))
    for company, ceo in zip(entities["company"], ceos, strict=True):
        yield WorldFact(company, "headquarters", any_of("headquarters"))
        yield WorldFact(company, "product", any_of("product"))
        yield WorldFact(company, "ceo", ceo)
        yield WorldFact(ceo, "leads", company)
    for index, country in enumerate(entities["country"]):
        capital = cities[index]
        yield WorldFact(country, "capital", capital)
        yield WorldFact(capital, "capital_of", country)
        yield WorldFact(country, "official_language", entities["language"][index])
        yield WorldFact(country, "currency", entities["currency"][index])
        yield WorldFact(country, "continent", any_of("continent"))
    for index, city in enumerate(cities):
        home = entities["country"][index] if index < COUNTRIES else any_of("country")
        yield WorldFact(city, "country", home)
        yield WorldFact(city, "attraction", any_of("attraction"))
