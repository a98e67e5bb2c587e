"""The edit store, as a user names it."""

_SCHEMES = ("postgresql://", "postgresql+psycopg://", "postgres://")


class Store(str):
    """A folder, or the URL of a PostgreSQL database; ``repr`` shows no password."""

    __slots__ = ()

    @property
    def shared(self) -> bool:
        """Whether it is a database, which cannot hold a server's own files."""
        return self.startswith(_SCHEMES)

    @property
    def shown(self) -> str:
        """The name for messages: without a URL's password and options."""
        scheme, separator, rest = self.partition("://")
        if not separator:
            return str(self)
        credentials, at, place = rest.rpartition("@")
        user = credentials.partition(":")[0]
        return f"{scheme}://{user}{at}{place.partition('?')[0]}"

    def __repr__(self) -> str:
        return repr(self.shown)
