"""Nothing acknowledged is lost, and nothing is half there, wherever the server is killed."""

import os
from pathlib import Path

import pytest

from tests.crash.campaign import Campaign
from tests.crash.points import POINTS
from tests.crash.replay import Replay
from tests.crash.servers import Zygote

pytestmark = pytest.mark.slow

LONG_RUN = int(os.environ.get("CRASH_TEST_KILLS", "0"))
SEED = int(os.environ.get("CRASH_TEST_SEED", "0"))
KILLS_ON_ONE_STORE = 25


@pytest.mark.timeout(300)
def test_everything_acknowledged_survives_kills(
    zygote: Zygote, replay: Replay, tmp_path: Path
) -> None:
    """At each of the points, at a start, in the middle of writing and after a refused write."""
    campaign = Campaign(zygote, replay, tmp_path, SEED)
    campaign.run(len(POINTS) + 3)
    print(f"{campaign.kills.total()} kills in {campaign.seconds:.0f} s")  # noqa: T201


@pytest.mark.skipif(not LONG_RUN, reason="CRASH_TEST_KILLS says how often; 200 take half an hour")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("number", range(-(-LONG_RUN // KILLS_ON_ONE_STORE)))
def test_everything_acknowledged_survives_many_kills(
    zygote: Zygote, replay: Replay, tmp_path: Path, number: int
) -> None:
    campaign = Campaign(zygote, replay, tmp_path, SEED + 1 + number)
    campaign.run(min(KILLS_ON_ONE_STORE, LONG_RUN - number * KILLS_ON_ONE_STORE))
    print(f"{dict(campaign.kills)}, {campaign.seconds:.0f} s")  # noqa: T201
