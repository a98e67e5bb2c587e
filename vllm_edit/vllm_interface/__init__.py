"""The one place that knows vLLM: every name of vLLM that this project uses is taken here.

Each module holds the names of one concern, as `Symbol`s, and small functions around them. A symbol
says where each supported version of vLLM has the name, and which members of it are used. vLLM is
imported only when a symbol is loaded, so importing this package costs nothing.
"""
