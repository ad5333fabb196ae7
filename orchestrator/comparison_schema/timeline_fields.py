"""Where the time of a run went."""

from pydantic import Field

from orchestrator.comparison_schema.measure_fields import Part


class DeviceTime(Part):
    """What one of the devices did."""

    device: int = Field(description="from 1; the GPUs, or the actors on a CPU, used at once")
    seconds: dict[str, float] = Field(
        description="by phase, `unused` where it had no actor; they sum to the whole run's"
    )
    work_seconds: float = Field(
        description="from when it first held a model to the run's last shard, over all starts"
    )
    busy_share: float = Field(description="scoring and answering, as a share of that time")


class Timeline(Part):
    """When there was work, and how much of that time the devices were at it."""

    starts: int = Field(description="1, and 1 more for each resumption")
    seconds: float = Field(description="from the command to the last shard, over all starts")
    seconds_to_first_shard: float = Field(
        description="from the first command until a model began to score or answer"
    )
    busy_share: float = Field(description="of all devices' `work_seconds`")
    devices: list[DeviceTime]
