"""MeLLo: answers multi-hop questions about edited facts, one hop at a time."""

from retriever.mello.format import HopFormat, load_hop_format
from retriever.mello.hops import Mello, Solution
from retriever.mello.settings import MelloSettings

__all__ = ["HopFormat", "Mello", "MelloSettings", "Solution", "load_hop_format"]
