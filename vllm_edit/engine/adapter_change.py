"""What a swap of the merged weights does to the adapters beside them."""

from contextlib import AbstractAsyncContextManager, nullcontext


class AdapterChange:
    """The steps, in the order of a swap. This class is the change of an engine without adapters."""

    def without_removal(self) -> AbstractAsyncContextManager[object]:
        """Around all steps after `end_unfit`: no adapter is removed meanwhile."""
        return nullcontext()

    async def end_unfit(self) -> None:
        """End the variants that will have no fitting adapter, with their last requests.

        May be cancelled while it waits for these.
        """

    async def prepare(self) -> None:
        """Before the pause: write what the adapters will be, and load those of new variants.

        Raises SwapFailed if the engine does not take one.
        """

    async def exchange(self) -> None:
        """In the pause: make the loaded adapters fit the new merged weights.

        Raises SwapFailed if the engine does not take one.
        """

    async def exchange_back(self) -> None:
        """In the pause, after a failure: undo `exchange`; raises SwapFailed as it does."""

    async def take_back(self) -> None:
        """After a swap that failed: undo `end_unfit` and `prepare`."""

    def publish(self) -> None:
        """After the pause: serve the variants under their names."""
