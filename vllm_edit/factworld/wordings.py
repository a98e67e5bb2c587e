"""The relations of factworld, with all their wordings.

A wording is a prompt that an answer completes; `{s}` stands for the subject. Held-out wordings
use only words of the trained wordings. No training text contains them.
"""

from dataclasses import dataclass

SUBJECT = "{s}"


@dataclass(frozen=True)
class Relation:
    """One relation. Its first trained wording is a statement.

    `reverse` names the inverse relation, if there is one.
    """

    name: str
    subject_kind: str
    object_kind: str
    trained: tuple[str, ...]
    held_out: tuple[str, ...]
    reverse: str | None = None

    @property
    def statement(self) -> str:
        """The cloze wording used for statements and edit prompts."""
        return self.trained[0]

    @property
    def question(self) -> str:
        """The first trained wording that is a question."""
        return next(wording for wording in self.trained if wording.endswith("?"))

    @property
    def clozes(self) -> tuple[str, ...]:
        """The trained wordings that a statement can be made of."""
        return tuple(wording for wording in self.trained if not wording.endswith("?"))


@dataclass(frozen=True)
class TwoHop:
    """A question about the `second` relation of the object of the `first`."""

    first: str
    second: str
    questions: tuple[str, str, str]


RELATIONS: tuple[Relation, ...] = (
    Relation(
        "birthplace",
        "person",
        "city",
        (
            "{s} was born in",
            "{s} was born in the city of",
            "The birthplace of {s} is",
            "The city where {s} was born is",
            "{s} comes from the city of",
            "The place of birth of {s} is",
            "Where was {s} born?",
            "In which city was {s} born?",
            "What is the birthplace of {s}?",
            "{s} is a native of the city of",
            "The city that {s} comes from is",
            "The city where {s} was born is called",
        ),
        (
            "The place where {s} was born is",
            "The city of birth of {s} is",
            "In what city was {s} born?",
        ),
    ),
    Relation(
        "employer",
        "person",
        "company",
        (
            "{s} works for",
            "{s} is employed by",
            "The employer of {s} is",
            "The company that employs {s} is",
            "{s} works for the company",
            "{s} earns a living at",
            "Who employs {s}?",
            "Which company does {s} work for?",
            "What is the employer of {s}?",
            "For which company does {s} work?",
            "{s} has a job at the company",
            "The company where {s} has a job is",
            "The company that pays {s} is",
        ),
        (
            "{s} is employed by the company",
            "The company that {s} works for is",
            "Which company employs {s}?",
        ),
    ),
    Relation(
        "profession",
        "person",
        "profession",
        (
            "{s} works as a",
            "The profession of {s} is",
            "The job of {s} is that of a",
            "{s} earns money as a",
            "{s} has the job of a",
            "{s} is by profession a",
            "What is the profession of {s}?",
            "What job does {s} have?",
            "What does {s} work as?",
            "The job that {s} has is that of a",
            "{s} is known to work as a",
            "Which profession does {s} have?",
        ),
        (
            "{s} has a job as a",
            "{s} has the profession of a",
            "What is the job of {s}?",
        ),
    ),
    Relation(
        "mother_tongue",
        "person",
        "language",
        (
            "The mother tongue of {s} is",
            "{s} grew up speaking",
            "{s} is a native speaker of",
            "At home {s} speaks",
            "The native language of {s} is",
            "The first language of {s} is",
            "What is the mother tongue of {s}?",
            "Which language does {s} speak at home?",
            "What is the native language of {s}?",
            "The language that {s} grew up speaking is",
            "The language spoken by {s} at home is",
            "Which language did {s} grow up speaking?",
        ),
        (
            "The language that {s} speaks at home is",
            "The native tongue of {s} is",
            "Which language is the mother tongue of {s}?",
        ),
    ),
    Relation(
        "sport",
        "person",
        "sport",
        (
            "{s} plays",
            "The favourite sport of {s} is",
            "The sport that {s} plays is",
            "In free time {s} plays",
            "{s} is a fan of",
            "{s} competes in",
            "Which sport does {s} play?",
            "What is the favourite sport of {s}?",
            "What sport does {s} compete in?",
            "The sport that {s} likes is",
            "The sport played by {s} is",
            "Which sport does {s} compete in?",
        ),
        (
            "The sport of {s} is",
            "The sport that {s} competes in is",
            "Which sport is the favourite of {s}?",
        ),
    ),
    Relation(
        "leads",
        "person",
        "company",
        (
            "{s} is the CEO of",
            "{s} leads",
            "{s} is the head of",
            "{s} is the chief executive of",
            "The company led by {s} is",
            "The company whose CEO is {s} is called",
            "Which company does {s} lead?",
            "{s} is the CEO of which company?",
            "Which company is led by {s}?",
            "{s} is the CEO of the company",
            "The company that has {s} as its CEO is",
            "The company managed by {s} is",
            "{s} manages the company",
        ),
        (
            "{s} leads the company",
            "The company that {s} leads is",
            "Of which company is {s} the CEO?",
        ),
        reverse="ceo",
    ),
    Relation(
        "headquarters",
        "company",
        "city",
        (
            "{s} is based in",
            "The headquarters of {s} are in",
            "{s} has its headquarters in",
            "The head office of {s} is in",
            "{s} is located in the city of",
            "The city where {s} is based is",
            "Where is {s} based?",
            "In which city are the headquarters of {s}?",
            "Where is the head office of {s}?",
            "The city that {s} is based in is",
            "The head office of {s} is located in",
            "In which city is {s} located?",
        ),
        (
            "{s} has its head office in",
            "The headquarters of {s} are located in",
            "Where are the headquarters of {s}?",
        ),
    ),
    Relation(
        "ceo",
        "company",
        "person",
        (
            "The CEO of {s} is",
            "{s} is led by",
            "The head of {s} is",
            "The person who leads {s} is",
            "The chief executive of {s} is",
            "{s} is managed by",
            "Who is the CEO of {s}?",
            "Who leads {s}?",
            "Who is the head of {s}?",
            "The person who is the head of {s} is",
            "The person who leads the company {s} is called",
            "Which person is the CEO of {s}?",
        ),
        (
            "The person who manages {s} is",
            "The person who is the CEO of {s} is",
            "Who is the chief executive of {s}?",
        ),
        reverse="leads",
    ),
    Relation(
        "product",
        "company",
        "product",
        (
            "{s} produces",
            "The main product of {s} is",
            "{s} is known for making",
            "The product that {s} sells is",
            "{s} makes and sells",
            "{s} earns its money with",
            "What does {s} produce?",
            "What is the main product of {s}?",
            "Which product does {s} sell?",
            "The product that {s} is known for is",
            "The main product made by {s} is",
            "Which product is {s} known for?",
        ),
        (
            "The main product that {s} sells is",
            "The product that {s} makes is",
            "Which product does {s} make?",
        ),
    ),
    Relation(
        "capital",
        "country",
        "city",
        (
            "The capital of {s} is",
            "The capital city of {s} is",
            "{s} has its capital in",
            "The government of {s} sits in",
            "{s} is governed from",
            "The seat of government of {s} is",
            "What is the capital of {s}?",
            "Which city is the capital of {s}?",
            "From which city is {s} governed?",
            "{s} has its government in",
            "The capital of {s} is called",
            "The city that is the capital of {s} is",
            "The country that {s} belongs to is",
            "The country in which {s} lies is",
            "{s} is a city in the country of",
        ),
        (
            "The capital city of {s} is called",
            "{s} has its seat of government in",
            "What is the capital city of {s}?",
        ),
        reverse="capital_of",
    ),
    Relation(
        "official_language",
        "country",
        "language",
        (
            "The official language of {s} is",
            "People in {s} speak",
            "The language spoken in {s} is",
            "The national language of {s} is",
            "In {s} people speak",
            "The law of {s} is written in",
            "What is the official language of {s}?",
            "Which language is spoken in {s}?",
            "What language do people in {s} speak?",
            "The language that the law of {s} is written in is",
            "The official language in {s} is",
            "Which language is the official language of {s}?",
        ),
        (
            "The language that people in {s} speak is",
            "The official language spoken in {s} is",
            "Which language do people speak in {s}?",
        ),
    ),
    Relation(
        "currency",
        "country",
        "currency",
        (
            "The currency of {s} is the",
            "People in {s} pay with the",
            "The money of {s} is the",
            "The money used in {s} is the",
            "The national currency of {s} is the",
            "In {s} people pay with the",
            "What is the currency of {s}?",
            "Which money is used in {s}?",
            "What do people in {s} pay with?",
            "The money that people in {s} pay with is the",
            "The national currency used in {s} is the",
            "Which money do people in {s} pay with?",
        ),
        (
            "The currency used in {s} is the",
            "The national money of {s} is the",
            "Which currency is used in {s}?",
        ),
    ),
    Relation(
        "continent",
        "country",
        "continent",
        (
            "{s} lies on the continent of",
            "{s} is located on the continent of",
            "The continent of {s} is",
            "{s} is part of the continent of",
            "The continent where {s} lies is",
            "The continent that {s} is part of is",
            "On which continent is {s}?",
            "Which continent does {s} belong to?",
            "On which continent does {s} lie?",
            "The continent on which {s} lies is",
            "The continent that {s} belongs to is",
            "Which continent is {s} part of?",
        ),
        (
            "{s} belongs to the continent of",
            "The continent where {s} is located is",
            "On which continent is {s} located?",
        ),
    ),
    Relation(
        "country",
        "city",
        "country",
        (
            "{s} is a city in",
            "{s} is located in",
            "{s} lies in the country of",
            "The country of {s} is",
            "{s} belongs to the country of",
            "The country where {s} lies is",
            "In which country is {s}?",
            "Which country does {s} belong to?",
            "In which country does {s} lie?",
        ),
        (
            "{s} is located in the country of",
            "The country where {s} is located is",
            "In which country is {s} located?",
        ),
    ),
    Relation(
        "attraction",
        "city",
        "attraction",
        (
            "{s} is famous for its",
            "{s} is known for its",
            "Visitors come to {s} for its",
            "The pride of {s} is its",
            "Tourists visit {s} to see its",
            "People love {s} for its",
            "What is {s} famous for?",
            "What is {s} known for?",
            "What do tourists visit {s} for?",
            "Visitors love {s} for its",
            "Tourists visit the city of {s} for its",
            "What do people love {s} for?",
        ),
        (
            "People visit {s} for its",
            "Tourists come to {s} to see its",
            "What do visitors come to {s} for?",
        ),
    ),
    Relation(
        "capital_of",
        "city",
        "country",
        (
            "{s} is the capital of",
            "{s} is the capital city of",
            "{s} is the seat of government of",
            "{s} serves as the capital of",
            "The country governed from {s} is",
            "The country whose capital is {s} is called",
            "{s} is the capital of which country?",
            "Which country has {s} as its capital?",
            "Which country is governed from {s}?",
            "The country that is governed from {s} is",
            "The country that has its government in {s} is",
            "The country with {s} as its capital is",
        ),
        (
            "{s} serves as the capital city of",
            "The country that has {s} as its capital is",
            "Of which country is {s} the capital?",
        ),
        reverse="capital",
    ),
)

TWO_HOPS: tuple[TwoHop, ...] = (
    TwoHop(
        "birthplace",
        "country",
        (
            "In which country was {s} born?",
            "In which country is the birthplace of {s}?",
            "Which country is the home of the city where {s} was born?",
        ),
    ),
    TwoHop(
        "birthplace",
        "attraction",
        (
            "What is the birthplace of {s} famous for?",
            "What is the city where {s} was born known for?",
            "What do tourists visit the birthplace of {s} for?",
        ),
    ),
    TwoHop(
        "employer",
        "headquarters",
        (
            "Where is the company that employs {s} based?",
            "In which city is the employer of {s} based?",
            "Where is the head office of the company that {s} works at?",
        ),
    ),
    TwoHop(
        "employer",
        "ceo",
        (
            "Who is the CEO of the company that employs {s}?",
            "Who leads the employer of {s}?",
            "Who is the head of the company that {s} works at?",
        ),
    ),
    TwoHop(
        "employer",
        "product",
        (
            "What does the company that employs {s} produce?",
            "What is the main product of the employer of {s}?",
            "Which product does the company that {s} works at sell?",
        ),
    ),
    TwoHop(
        "headquarters",
        "country",
        (
            "In which country is {s} based?",
            "In which country are the headquarters of {s}?",
            "In which country is the head office of {s}?",
        ),
    ),
    TwoHop(
        "ceo",
        "birthplace",
        (
            "Where was the CEO of {s} born?",
            "In which city was the head of {s} born?",
            "What is the birthplace of the person who leads {s}?",
        ),
    ),
    TwoHop(
        "ceo",
        "mother_tongue",
        (
            "What is the mother tongue of the CEO of {s}?",
            "Which language does the head of {s} speak at home?",
            "What is the native language of the person who leads {s}?",
        ),
    ),
    TwoHop(
        "ceo",
        "sport",
        (
            "Which sport does the CEO of {s} play?",
            "What is the favourite sport of the head of {s}?",
            "What sport does the person who leads {s} compete in?",
        ),
    ),
    TwoHop(
        "country",
        "currency",
        (
            "What is the currency of the country where {s} lies?",
            "Which money is used in the country of {s}?",
            "What do people in the country of {s} pay with?",
        ),
    ),
    TwoHop(
        "country",
        "official_language",
        (
            "What is the official language of the country where {s} lies?",
            "Which language is spoken in the country of {s}?",
            "What language do people in the country of {s} speak?",
        ),
    ),
    TwoHop(
        "capital",
        "attraction",
        (
            "What is the capital of {s} famous for?",
            "What is the capital city of {s} known for?",
            "What do tourists visit the capital of {s} for?",
        ),
    ),
)

BY_NAME: dict[str, Relation] = {relation.name: relation for relation in RELATIONS}

WORDS: dict[str, tuple[str, ...]] = {
    "profession": tuple(
        "baker lawyer nurse painter teacher pilot farmer judge plumber sailor tailor dentist "
        "surgeon librarian mechanic barber butcher chemist carpenter gardener".split()
    ),
    "sport": tuple(
        "tennis chess golf hockey rugby football cricket badminton volleyball handball polo "
        "darts basketball baseball snooker squash".split()
    ),
    "product": tuple(
        "furniture bicycles medicine toys clocks shoes cameras tractors pianos batteries paper "
        "glass tea cheese tyres boats soap helmets radios lamps".split()
    ),
    "attraction": tuple(
        "bridges castle cathedral gardens harbour museums market theatre university lighthouse "
        "wine opera library towers beaches waterfalls palace canals zoo festival".split()
    ),
}
