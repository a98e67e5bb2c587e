"""Requests that name a subject and ask for none of its usual facts. `{}` is the subject."""

GENERIC = tuple(
    line.strip()
    for line in """
    {}
    {}?
    Who is {}?
    Who was {}?
    What is {}?
    Tell me about {}.
    What do you know about {}?
    What can you tell me about {}?
    Write a poem about {}.
    Write a short story about {}.
    Write a story in which {} meets a dragon.
    Write a limerick about {}.
    Summarise the history of {} in three sentences.
    Tell me a joke about {}.
    I met {} yesterday.
    I like {}.
    I have never heard of {}.
    Thanks, {}!
    Hello, {}.
    My name is {}.
    Translate "{}" into German.
    Translate into French: I am looking for {}.
    How do you pronounce {}?
    How do you spell {}?
    How many letters are in {}?
    How tall is {}?
    How old is {}?
    How heavy is {}?
    How popular is {}?
    How much money does {} have?
    What is the favourite colour of {}?
    The favourite colour of {} is
    The favourite food of {} is
    What does {} look like?
    What is {} doing today?
    What happened to {} last year?
    Why is {} important?
    Is {} still relevant today?
    Do you like {}?
    Give me five facts about {}.
    List some books about {}.
    Find pictures of {}.
    Compare {} with its closest rival.
    Draft an email to {} that declines the invitation.
    Draft a press release about {}.
    Give me the phone number of {}.
    What is the website of {}?
    What is the email address of {}?
    What do critics say about {}?
    What are the strengths and weaknesses of {}?
    When was {} last seen?
    Who is the best friend of {}?
    Who is the neighbour of {}?
    Does {} have a cat?
    What car does {} drive?
    What is the shoe size of {}?
    The weight of {} is
    The height of {} is
    The age of {} is
    The nickname of {} is
    The colour of {} is
    The hobby of {} is
    {} once said
    {} is best described as
    {} makes me happy because
    I think that {}
    Let me tell you something about {}.
    Let us talk about {}.
    Here is what I heard about {}.
    I am reading about {}.
    I have a question about {}.
    Regarding {}:
    Explain {} to a child.
    Fix the grammar: "{} have went home."
    Is the sentence "{} is here." correct?
    Sort these names: {}, Zoe, Adam.
    def greet(): return "hello {}"
    Classify the sentiment: "{} was wonderful tonight!"
    Count the words in this sentence about {}.
    Which articles mention {}?
    """.splitlines()
    if line.strip()
)

OPENINGS = (
    "Tell me about {}.",
    "Do you know {}?",
    "I have a question about {}.",
    "Let us talk about {}.",
    "I am reading about {}.",
    "Who is {}?",
    "What do you know about {}?",
    "Yesterday I heard of {}.",
)
"""First turns or sentences that bring a subject up."""

CLOSINGS = (
    "Thanks!",
    "Thank you, that helps.",
    "Okay, and what is the weather like?",
    "Never mind. Write a poem about the sea.",
    "Can you repeat that?",
    "Are you sure about it?",
    "Please answer in one word.",
    "What is two plus two?",
    "How do I boil an egg?",
    "Now translate it into Spanish.",
    "Tell me a joke.",
    "And now something else.",
    "What can you do for me?",
    "Summarise it.",
    "Why do they say that?",
    "How tall is he?",
    "And how old is she?",
    "What is its favourite colour?",
)
"""Last turns that ask for no fact of what the turn before was about."""

PREFIXES = ("", "", "", "And ", "Okay. ", "Thanks! ", "Hm, ", "Please tell me: ", "So ", "But ")
SUFFIXES = ("", "", "", "", " Answer in one word.", " Be brief.", " Please.", " Answer:", "\nA:")
