"""MeLLo: questions that an edit answers only by way of other facts, hop by hop."""

from retriever.mello.format import HopFormat, load_hop_format
from retriever.mello.hops import Mello, Solution
from retriever.mello.settings import MelloSettings

__all__ = ["HopFormat", "Mello", "MelloSettings", "Solution", "load_hop_format"]
