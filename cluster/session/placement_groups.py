"""Reservations that outlive their makers: Ray keeps a dead actor's placement groups until its whole job ends.

Ray Train's own cleaner asks the dashboard whether its controller lives, but an embedded Ray has no dashboard.
"""

# Ray carries no types here, and no other API names the maker of a placement group.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportAttributeAccessIssue=false

import ray
from ray._private.state import state
from ray._raylet import ActorID, PlacementGroupID
from ray.core.generated import gcs_pb2
from ray.util.placement_group import PlacementGroup, remove_placement_group


def remove_orphans() -> int:
    """Remove the placement groups of dead actors of this driver's job; returns how many there were."""
    job = ray.get_runtime_context().get_job_id()
    found = 0
    for data in state._connect_and_get_accessor().get_placement_group_table():
        group = gcs_pb2.PlacementGroupTableData.FromString(data)
        # For a group that a driver made, the id of the actor is nil, and the actor counts as dead.
        is_an_actors = not ActorID(group.creator_actor_id).is_nil()
        is_orphaned = is_an_actors and group.creator_actor_dead and not group.is_detached
        if group.creator_job_id.hex() == job and is_orphaned and group.state != gcs_pb2.PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
            found += 1
    return found
