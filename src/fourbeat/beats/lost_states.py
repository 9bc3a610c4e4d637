"""A warning for states of Equinox that a forward pass cannot write."""

import warnings

from fourbeat.beats.state import TrainState
from fourbeat.models.equinox_states import states_out_of_reach


class LostStateWarning(UserWarning):
    """What the forward pass makes of an `equinox.nn.State` is lost, because of where the model holds it."""


def warn_of_lost_states(state: TrainState) -> None:
    """Warns, once a compilation, of each `equinox.nn.State` that loss_fn cannot replace."""
    if not state.static.is_module:
        for place in states_out_of_reach(state.static.merge(state.params, state.rest)):
            warnings.warn(
                f"{place} is an equinox.nn.State that loss_fn cannot replace: what the forward pass makes of "
                "it, such as running statistics, is lost. Make the model a dict, {'net': net, 'state': "
                "state}, and write the new one in loss_fn: model['state'] = new_state.",
                LostStateWarning,
                stacklevel=4,
            )
