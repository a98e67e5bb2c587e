"""The rules for texts, against values worked out by hand."""

import pytest

from weight_patchers.wording import (
    begins_with,
    exact_match,
    first_word,
    normalized,
    runs_on,
    says,
    unchanged,
)


def test_normalizing_drops_case_punctuation_and_articles() -> None:
    assert normalized(" The  St. Louis, USA ") == "st louis usa"


@pytest.mark.parametrize(
    ("generated", "target", "score"),
    [
        (" Paris.", "Paris", 1.0),
        ("the paris Hilton", " Paris ", 1.0),
        ("Paris.The", "Paris", 1.0),
        ("St. Louis, Missouri", "St Louis", 1.0),
        ("Washington, D.C. and more", "Washington, DC", 1.0),
        ("5 metres", "5", 1.0),
        ("New  York City", "New York", 1.0),
        ("C++ is", "C++", 1.0),
        ("東京です", "東京", 1.0),
        ("?", "?", 1.0),
        ("Parisian", "Paris", 0.0),
        ("54 metres", "5", 0.0),
        ("Par", "Paris", 0.0),
        ("in Paris", "Paris", 0.0),
        ("Lyon, not Paris", "Paris", 0.0),
        ("", "Paris", 0.0),
        ("", "?", 0.0),
        ("3.5 million", "3", 0.0),
        ("30", "3", 0.0),
        ("-40", "40", 0.0),
        ("C++ is", "C", 0.0),
        ("St. Louis", "St", 1.0),
        ("मुंबई में", "मुंबई", 1.0),
        ("मुंबईकर", "मुंबई", 0.0),
        ("서울은", "서울", 1.0),
        ("กรุงเทพมหานคร", "กรุงเทพ", 1.0),
        ("A grade", "A", 1.0),
        ("Grade A", "A", 0.0),
        ("the city", "the", 1.0),
        ("$5 each", "$5", 1.0),
        ("5 each", "$5", 0.0),
        (".NET is", ".NET", 1.0),
        ("NETs", ".NET", 0.0),
        ("1,000 men", "1000", 1.0),
        ("1,000 men", "1", 0.0),
        ("O'Brien's dog", "O’Brien", 1.0),
        ("rock 'n' roll", "rock 'n' roll", 1.0),
        ("'s-Hertogenbosch, in", "'s-Hertogenbosch", 1.0),
        ("AT&T Inc", "AT&T", 1.0),
        ("AT", "AT&T", 0.0),
        ("A/B test", "A/B", 1.0),
        ("50°C", "50 °C", 1.0),
    ],
)
def test_an_answer_begins_with_whole_words(generated: str, target: str, score: float) -> None:
    assert begins_with(generated, target) == score


@pytest.mark.parametrize(
    ("generated", "answers", "score"),
    [
        ("Paris.", ["Paris"], 1.0),
        ("paris, in the north of France", ["Paris"], 1.0),
        ("the Paris", ["Paris"], 1.0),
        ("St. Louis, Missouri.", ["St. Louis"], 1.0),
        ("Washington, D.C. and more", ["Washington, D.C."], 1.0),
        ("US\nQuestion: next", ["United States", "US"], 1.0),
        ("Paris Hilton.", ["Paris"], 0.0),
        ("Lyon. Paris", ["Paris"], 0.0),
        ("", ["Paris"], 0.0),
        ("Paris", ["..."], 0.0),
        ("3.5 million", ["3"], 0.0),
        ("1,000,000 people", ["1"], 0.0),
        ("C#, mostly", ["C++"], 0.0),
        ("-40 degrees", ["40 degrees"], 0.0),
        ("St. Louis", ["St"], 0.0),
        ("罗马。它是意大利的首都", ["罗马"], 1.0),
        ("मुंबई। यह बड़ा है", ["मुंबई"], 1.0),
        ("A. It is a grade", ["A"], 1.0),
        ("Rome — the city", ["Rome"], 1.0),
        ("मबई", ["मुंबई"], 0.0),
        ("−40", ["-40"], 1.0),
        ("-40", ["40"], 0.0),
        ("40", ["-40"], 0.0),
        ("1,000,000 people", ["1000000"], 0.0),
        ("1,000,000, says", ["1000000"], 1.0),
        ("C++, mostly", ["C++"], 1.0),
        ("C", ["C#"], 0.0),
        ("F#", ["F"], 0.0),
        (".NET, of course", [".NET"], 1.0),
        ("NET", [".NET"], 0.0),
        ("$5.", ["5"], 0.0),
        ("$5.", ["$5"], 1.0),
        ("5%", ["5"], 0.0),
        ("Rome[1]. It", ["Rome"], 1.0),
        ("Rome، و", ["Rome"], 1.0),
        ("روما، عاصمة", ["روما"], 1.0),
        ("東京、日本", ["東京"], 1.0),
        ("東京都", ["東京"], 0.0),
        ("Rome - the city", ["Rome"], 1.0),
        ("Rome—the city", ["Rome"], 1.0),
        ("The", ["The"], 1.0),
        ("the", ["a"], 0.0),
        ("An apple", ["apple"], 1.0),
        ("U.S. troops", ["U"], 0.0),
        ("U.S.", ["US"], 1.0),
        ("Washington D.C., and", ["Washington, DC"], 1.0),
        ("Paris.The next", ["Paris"], 1.0),
        ("10:30 in the morning", ["10"], 0.0),
        ("10:30", ["10:30"], 1.0),
        ("Spider-Man. He", ["Spiderman"], 1.0),
        ("Spider Man", ["Spider-Man"], 1.0),
        ("Mt. Everest", ["Mt"], 0.0),
        ("Dr. No", ["Dr. No"], 1.0),
        ('"Paris", he said', ["Paris"], 1.0),
        ("«Париж», столица", ["Париж"], 1.0),
        ("Łódź.", ["Łódź"], 1.0),
        ("Lodz", ["Łódź"], 0.0),
        ("3.14", ["3.14"], 1.0),
        ("3.", ["3"], 1.0),
        ("3, 4 and 5", ["3"], 1.0),
        ("1990-2000", ["1990"], 0.0),
        ("1990 - 2000", ["1990"], 1.0),
        ("İstanbul, Türkiye", ["İstanbul"], 1.0),
        ("STRASSE", ["Straße"], 1.0),
        ("কলকাতা। এটি", ["কলকাতা"], 1.0),
        ("கொழும்பு, இலங்கை", ["கொழும்பு"], 1.0),
        ("กรุงเทพ", ["กรุงเทพ"], 1.0),
        ("서울.", ["서울"], 1.0),
        ("I", ["I"], 1.0),
        ("X, formerly Twitter", ["X"], 1.0),
        ("Who? Nobody", ["Who"], 1.0),
    ],
)
def test_exact_match_takes_the_answer_up_to_a_punctuation_mark(
    generated: str, answers: list[str], score: float
) -> None:
    assert exact_match(generated, answers) == score


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("Paris. And more", "paris.\nSomething else", 1.0),
        ("Paris, France", "Paris", 0.0),
        ("3.5 million", "35 million", 0.0),
        ("St. Louis is", "St. Paul is", 0.0),
        ("J. S. Bach", "J. Smith", 0.0),
        ("罗马。它", "罗马。她", 1.0),
        ("-40", "40", 0.0),
        ("", "", 1.0),
        ("...", "...", 1.0),
        ("...", "?", 0.0),
    ],
)
def test_unchanged_compares_the_first_sentence(before: str, after: str, same: float) -> None:
    assert unchanged(before, after) == same


@pytest.mark.parametrize(
    ("generated", "goes_on"),
    [
        ("Paris", 0.0),
        (" the paris. It is large", 0.0),
        ("Paris\nLondon", 0.0),
        ("Paris, which is", 1.0),
        ("Paris Hilton", 1.0),
        ("Parisian", None),
        ("in Paris", None),
        ("", None),
        ("Paris[1]. It", 0.0),
        ("Paris。它", 0.0),
        ("Paris — it", 1.0),
    ],
)
def test_an_answer_with_the_target_may_run_on(generated: str, goes_on: float | None) -> None:
    assert runs_on(generated, ["Paris"]) == goes_on


def test_initials_in_a_target_end_no_sentence() -> None:
    assert runs_on("J. S. Bach. He", ["J. S. Bach"]) == 0.0
    assert runs_on("J. S. Bach, he", ["J. S. Bach"]) == 1.0


def test_a_sentence_says_its_whole_words() -> None:
    assert says("It is in Paris.", ["Paris"]) == 1.0
    assert says("It is Parisian. Paris", ["Paris"]) == 0.0
    assert says("anything", ["the"]) == 0.0
    assert says("the city of New York.", ["new york"]) == 1.0


def test_the_first_word_has_no_case() -> None:
    assert first_word("  Paris, France") == first_word("paris") == "paris"
    assert first_word(' "Paris", he') == "paris"
    assert first_word("...") == ""
    assert first_word("東京です、日本") == "東京です"
    assert first_word("東京 city") == "東京"
    assert first_word("मुंबई में") == "मुंबई"
    assert first_word("-3.5 degrees") == "-3.5"
