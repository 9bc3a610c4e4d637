"""Replicas: several members of one training in one program, each equal to its run alone."""

from fourbeat.replicating.convolutions import SlowReplicasWarning
from fourbeat.replicating.member_metrics import MemberMetrics
from fourbeat.replicating.members import Replicas, replicas
from fourbeat.replicating.replicas_state import ReplicasState
from fourbeat.replicating.varied import SameMembersWarning

__all__ = [
    "MemberMetrics",
    "Replicas",
    "ReplicasState",
    "SameMembersWarning",
    "SlowReplicasWarning",
    "replicas",
]
