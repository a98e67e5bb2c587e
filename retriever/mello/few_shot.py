"""Worked questions for models that were not trained on MeLLo's lines."""

from retriever.mello.format import HopFormat

_DEMONSTRATIONS = """\
Question: Which language is spoken in the country where Mount Fuji lies?
Subquestion: In which country does Mount Fuji lie?
Tentative answer: Japan.
Retrieved fact: Mount Fuji lies in Peru.
Contradiction: Yes.
Intermediate answer: Peru.
Subquestion: Which language is spoken in Peru?
Tentative answer: Spanish.
Retrieved fact: Which language is spoken in Peru? Spanish.
Contradiction: No.
Intermediate answer: Spanish.
Final answer: Spanish.

Question: Who founded the company that makes the Thinkpad?
Subquestion: Which company makes the Thinkpad?
Tentative answer: Lenovo.
Retrieved fact: Which company makes the Thinkpad? Lenovo.
Contradiction: No.
Intermediate answer: Lenovo.
Subquestion: Who founded Lenovo?
Tentative answer: Liu Chuanzhi.
Retrieved fact: Lenovo was founded by Ada Lovelace.
Contradiction: Yes.
Intermediate answer: Ada Lovelace.
Final answer: Ada Lovelace.

Question: What is the capital of the country that the author of Emma comes from?
Subquestion: Who is the author of Emma?
Tentative answer: Jane Austen.
Retrieved fact: Who is the author of Emma? Jane Austen.
Contradiction: No.
Intermediate answer: Jane Austen.
Subquestion: Which country does Jane Austen come from?
Tentative answer: England.
Retrieved fact: Jane Austen comes from Norway.
Contradiction: Yes.
Intermediate answer: Norway.
Subquestion: What is the capital of Norway?
Tentative answer: Oslo.
Retrieved fact: What is the capital of Norway? Oslo.
Contradiction: No.
Intermediate answer: Oslo.
Final answer: Oslo.

Question: Who composed The Magic Flute?
Subquestion: Who composed The Magic Flute?
Tentative answer: Wolfgang Amadeus Mozart.
Retrieved fact: The Magic Flute was composed by Clara Schumann.
Contradiction: Yes.
Intermediate answer: Clara Schumann.
Final answer: Clara Schumann.

"""

FEW_SHOT_FORMAT = HopFormat(demonstrations=_DEMONSTRATIONS)
"""Four questions of one to three hops: a fact that changes a hop, and hops without one."""
