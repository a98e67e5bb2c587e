"""MemPrompt: users' feedback on a kind of question, recalled for similar questions."""

from retriever.memprompt.feedback import Feedback, FeedbackMemory
from retriever.memprompt.prompt import clarification, clarified

__all__ = ["Feedback", "FeedbackMemory", "clarification", "clarified"]
