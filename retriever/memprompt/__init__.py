"""MemPrompt: what users have said about a kind of question, recalled for questions like it."""

from retriever.memprompt.feedback import Feedback, FeedbackMemory
from retriever.memprompt.prompt import clarified

__all__ = ["Feedback", "FeedbackMemory", "clarified"]
