"""The API processes of one server: one owns the engine and changes it."""

from functools import partial
from pathlib import Path

from vllm_edit.engine.adapter_files import AdapterFiles
from vllm_edit.engine.adapter_loader import AdapterLoader
from vllm_edit.engine.adapters import Adapters
from vllm_edit.engine.deadlines import Deadlines
from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.engine.pace import Pace
from vllm_edit.engine.served_variants import ServedVariants
from vllm_edit.engine.swap import Swapper
from vllm_edit.ledger import Ledger
from vllm_edit.replication.bus import Address, Bus
from vllm_edit.replication.follower import Connection
from vllm_edit.replication.member import Member
from vllm_edit.replication.mirrored_variants import MirroredVariants
from vllm_edit.replication.owner_file import OwnerFile
from vllm_edit.replication.siblings import SharedGracePeriod, Siblings
from vllm_edit.security.hashed_key import read_key
from vllm_edit.service.service import EditService
from vllm_edit.settings import Settings
from vllm_edit.vllm_interface import engine as vllm_engine
from vllm_edit.vllm_interface.engine import EngineClient


class Owner:
    """The process that changes the engine; ``processes`` is the number of API processes."""

    def __init__(
        self,
        engine: EngineClient,
        names: ModelNames,
        settings: Settings,
        scratch: Path,
        model: Path,
        processes: int,
    ) -> None:
        self._bus = Bus(settings.bus, scratch, _bus_key(settings))
        file = OwnerFile(settings.folder)
        self._siblings = Siblings(names, file, self._stopped) if processes > 1 else None
        self.grace = SharedGracePeriod(self._siblings) if self._siblings else GracePeriod()
        pace = Pace(partial(vllm_engine.running_requests, engine), settings.swap_share)
        deadlines = Deadlines(settings.engine_timeout, settings.swap_wait)
        loader = AdapterLoader(engine, names, AdapterFiles(model, scratch), deadlines)
        self.served = ServedVariants(
            Swapper(engine, settings.pause_mode, pace, deadlines),
            Adapters(loader, names, self.grace),
        )

    async def join(self, service: EditService, ledger: Ledger) -> Member:
        """Start the member; raises EditError as `Member.start` does."""
        member = Member(service, ledger, self._bus, self._siblings)
        await member.start()
        return member

    def _stopped(self) -> str | None:
        return self.served.stopped


class Sibling:
    """A process that shares the engine with its owner."""

    def __init__(self, bus: Bus, names: ModelNames, file: OwnerFile) -> None:
        self._bus = bus
        self._file = file
        self.grace = GracePeriod()
        owner = Connection(bus, Address.parse(file.leader()))
        self.served = MirroredVariants(owner, names, self.grace)

    async def join(self, service: EditService, _ledger: Ledger) -> Member:
        """Start a member that follows the owner; raises EditError as `Member.start` does."""
        member = Member(service, self._file, self._bus)
        await member.start()
        self.served.start(service)
        return member


async def api_process(
    engine: EngineClient, names: ModelNames, settings: Settings, scratch: Path, model: Path
) -> Owner | Sibling:
    """Whether this API process is the owner or a sibling, which waits for the owner."""
    number, count = vllm_engine.api_process(engine)
    if number < 1:
        return Owner(engine, names, settings, scratch, model, count)
    file = OwnerFile(settings.folder)
    await file.wait()
    return Sibling(Bus("", scratch, _bus_key(settings)), names, file)


def _bus_key(settings: Settings) -> str:
    """The key of the servers of the store; raises Unavailable if its file holds none."""
    return read_key(Path(settings.bus_key_file)) if settings.bus_key_file else ""
