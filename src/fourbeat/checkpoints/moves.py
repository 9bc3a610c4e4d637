"""Places of a training state that mean the same: what `wrt` selects is in `params`, else in `rest`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fourbeat.beats.saved_state import SavedState
from fourbeat.checkpoints.leaves import LeafKind, data_dtype
from fourbeat.types import Tree


class OtherPlace(NamedTuple):
    """Where else the value of a leaf may have been saved.

    Attributes:
      path: its path, as `jax.tree_util.keystr` writes it.
      may_widen: whether a wider float dtype takes its values: an average has float32 at least.
    """

    path: str
    may_widen: bool

    def takes(self, saved: LeafKind, wanted: LeafKind) -> bool:
        """Whether the value there, of the kind `saved`, fits."""
        if saved == wanted:
            return True
        if not self.may_widen or saved.shape != wanted.shape or not jnp.issubdtype(saved.dtype, jnp.inexact):
            return False
        return jnp.promote_types(data_dtype(saved), data_dtype(wanted)) == data_dtype(wanted)


def other_places(like: Tree) -> dict[str, tuple[OtherPlace, ...]]:
    """For the leaves of every training state in `like`, by path: where else to look, best first.

    A variable of the model keeps its path when another `wrt` moves it between `params` and `rest`. An
    average that was not kept starts from the parameter, as `beats.init` starts it.
    """
    is_state = lambda node: isinstance(node, SavedState)
    found = {}
    for path, state in jax.tree_util.tree_flatten_with_path(like, is_leaf=is_state)[0]:
        for field, others in (("params", ["rest"]), ("rest", ["params"]), ("ema", ["params", "rest"])):
            if is_state(state):
                where = jax.tree_util.keystr(path)
                for key_path, _ in jax.tree_util.tree_flatten_with_path(getattr(state, field))[0]:
                    within = jax.tree_util.keystr(key_path)
                    found[f"{where}.{field}{within}"] = tuple(
                        OtherPlace(f"{where}.{other}{within}", may_widen=field == "ema") for other in others
                    )
    return found
