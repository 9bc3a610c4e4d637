"""Shows our values in treescope, the viewer that NNX uses for its modules in a notebook."""

from collections.abc import Mapping
from typing import Any

from fourbeat.types import Object


def opened(
    value: Object, attributes: Mapping[str, Any], path: str | None, renderer: Object, about: str = ""
) -> Any:
    """A tree to open and close: `Name(attribute=..., ...)`, as NNX shows a module.

    Args:
      value: the value; the line starts with the name of its class.
      attributes: its children, by the names that they are read by.
      path: the path of `value`, from treescope.
      renderer: shows the children; from treescope.
      about: a few words beside the name.
    """
    import treescope
    from flax.nnx import visualization

    return visualization.render_object_constructor(
        object_type=type(value),
        attributes=attributes,
        path=path,
        subtree_renderer=renderer,
        color=treescope.formatting_util.color_from_string(type(value).__qualname__),
        first_line_annotation=_comment(about),
    )


def one_line(text: str, path: str | None, about: str = "") -> Any:
    """A line without children.

    Args:
      text: the line.
      path: the path of the value, from treescope.
      about: a few words beside it.
    """
    from treescope import rendering_parts

    line = rendering_parts.siblings(rendering_parts.text(text), _comment(about))
    return rendering_parts.build_one_line_tree_node(line=line, path=path)


def _comment(about: str) -> Any:
    from treescope import rendering_parts

    return rendering_parts.comment_color(rendering_parts.text(f"  # {about}" if about else ""))
