"""Rules: what each operation of a traced program does with the rows of its arguments.

A rule takes a `Call` and gives the kinds of what comes out, or says by `call.needs` that it cannot tell.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from fourbeat.shard.row_kinds import MEAN, SUM, WHOLE, Call, Count, Kind, Rows, paired


def _elementwise(call: Call) -> list[Kind]:
    call.same_but()
    special = [kind for kind in call.kinds if kind in (SUM, MEAN) or isinstance(kind, Count)]
    if special:
        return [_of_sums(call)] * len(call.outs)
    return [call.rows() or WHOLE] * len(call.outs)


def _of_sums(call: Call) -> Kind:
    """A linear expression of sums over rows, or an affine one of means over them."""
    kinds, how = call.kinds, "of a sum over the rows"
    counts = [kind for kind in kinds if isinstance(kind, Count)]
    call.needs(not any(isinstance(kind, Rows) for kind in kinds), how)
    if SUM in kinds and len(counts) == 1 and len(kinds) == 2:
        divides = call.name == "div" and kinds[0] is SUM
        call.needs(
            (divides or call.name == "mul") and _is_mean_factor(counts[0], call.num_rows, divides=divides),
            how,
        )
        return MEAN
    call.needs(not counts, "of the number of rows")
    call.needs(not (SUM in kinds and MEAN in kinds), how)
    kind = MEAN if MEAN in kinds else SUM
    if call.name in ("neg", "convert_element_type", "copy"):
        return kind
    if call.name in ("add", "sub", "add_any"):
        call.needs(kind is MEAN or WHOLE not in kinds, how)  # sub: one mean less another has no factor
        return kind
    call.needs(WHOLE in kinds and (call.name == "mul" or (call.name == "div" and kinds[1] is WHOLE)), how)
    return kind


def _is_mean_factor(count: Count, num_rows: tuple[int, int], *, divides: bool) -> bool:
    """Whether a sum over rows times this number, or divided by it, is as a mean over them is."""
    num, of_share = num_rows
    pair = (count.of_whole * num, count.of_share * of_share)
    if divides:
        pair = (count.of_whole * of_share, count.of_share * num)
    return math.isclose(*pair, rel_tol=1e-6) and pair[0] != 0


def _each_alone(call: Call) -> list[Kind]:
    return list(call.kinds)


def _same_for_all(call: Call) -> list[Kind]:
    call.same_but()
    call.needs(call.kinds == [WHOLE])
    return [WHOLE]


def _broadcast(call: Call) -> list[Kind]:
    call.same_but("shape")
    kind = _only(call)
    if isinstance(kind, Rows):
        axis = call.params["broadcast_dimensions"][kind.axis]
        call.needs(call.outs[0][axis] == call.shapes[0][kind.axis])
        return [Rows(axis, kind.num_inner)]
    made = call.made_rows()
    call.needs(made is None or kind is WHOLE)
    return [kind if made is None else made]  # a new axis, along which all values are the same


def _iota(call: Call) -> list[Kind]:
    call.same_but("shape")
    made = call.made_rows()
    call.needs(made is None or made.axis != call.params["dimension"])
    return [made or WHOLE]


def _reshape(call: Call) -> list[Kind]:
    kind = _only(call)
    call.same_but("new_sizes", "dimensions")
    call.needs(call.params.get("dimensions") is None or call.name == "squeeze")
    if not isinstance(kind, Rows):
        return [kind]
    made = call.made_rows()
    call.needs(made is not None)
    assert made is not None
    before = math.prod(call.shapes[0][: kind.axis])
    call.needs(math.prod(call.outs[0][: made.axis]) == before)
    return [made]


def _transpose(call: Call) -> list[Kind]:
    call.same_but()
    kind = _only(call)
    if isinstance(kind, Rows):
        return [Rows(call.params["permutation"].index(kind.axis), kind.num_inner)]
    return [kind]


def _reduce(call: Call) -> list[Kind]:
    call.same_but()
    axes = call.params["axes"]
    if call.name == "reduce_sum" and call.kinds[0] in (SUM, MEAN):
        return [call.kinds[0]]
    found = _plain_rows(call)
    if found is None:
        return [WHOLE] * len(call.outs)
    if found.axis in axes and call.name == "reduce_sum":
        return [SUM]
    call.needs(found.axis not in axes)
    return [Rows(found.axis - sum(axis < found.axis for axis in axes), found.num_inner)] * len(call.outs)


def _along(name: str) -> Callable[[Call], list[Kind]]:
    """What works along an axis, or axes, that a parameter names; each other axis by itself."""

    def rule(call: Call) -> list[Kind]:
        call.same_but()
        found = _plain_rows(call)
        axes = call.params[name]
        call.needs(found is None or found.axis not in (axes if isinstance(axes, tuple) else (axes,)))
        return [found or WHOLE] * len(call.outs)

    return rule


def _dot_general(call: Call) -> list[Kind]:
    call.same_but()
    _plain(call)
    contracted, batched = call.params["dimension_numbers"]
    places = []  # where the rows of each side come out
    before = 0
    for side in (0, 1):
        kind, rank = call.kinds[side], len(call.shapes[side])
        free = [axis for axis in range(rank) if axis not in (*contracted[side], *batched[side])]
        out = [*batched[side], *[None] * before, *free]
        before = len(free)
        if isinstance(kind, Rows):
            call.needs(kind.axis not in contracted[side])
            places.append(Rows(out.index(kind.axis), kind.num_inner))
    call.needs(len(set(places)) < 2)
    if len(places) == 2:
        call.needs(places[0].axis < len(batched[0]))
    return [places[0] if places else WHOLE]


def _convolution(call: Call) -> list[Kind]:
    call.same_but()
    _plain(call)
    image, kernel = call.kinds
    call.needs(not isinstance(kernel, Rows))
    if not isinstance(image, Rows):
        return [WHOLE]
    numbers = call.params["dimension_numbers"]
    call.needs(numbers.lhs_spec[0] == image.axis and call.params["batch_group_count"] == 1)
    return [Rows(numbers.out_spec[0], image.num_inner)]


def _window(call: Call) -> list[Kind]:
    call.same_but("jaxpr", "consts")
    if "jaxpr" in call.params:
        call.needs(str(call.params["jaxpr"]) == str(call.other_params["jaxpr"]))
        call.needs(not call.params.get("consts") and not call.other_params.get("consts"))
    found = _plain_rows(call)
    if found is not None:
        axis = found.axis
        for name in ("window_dimensions", "window_strides", "base_dilation", "window_dilation"):
            call.needs(call.params.get(name) is None or call.params[name][axis] == 1)
        call.needs(tuple(call.params["padding"][axis]) == (0, 0))
    return [found or WHOLE] * len(call.outs)


def _slice(call: Call) -> list[Kind]:
    call.same("strides", "start_indices")
    found = _plain_rows(call)
    if found is None:
        call.same("limit_indices")
        return [WHOLE]
    axis, strides = found.axis, call.params["strides"]
    call.needs(strides is None or strides[axis] == 1)
    call.needs(call.params["start_indices"][axis] == 0)
    for shape, params in ((call.shapes[0], call.params), (call.other_shapes[0], call.other_params)):
        call.needs(params["limit_indices"][axis] == shape[axis])
    return [found]


def _dynamic_slice(call: Call) -> list[Kind]:
    call.same_but("slice_sizes", "jaxpr")
    _plain(call)
    kind = call.kinds[0]
    call.needs(all(each is WHOLE for each in call.kinds[1:]))
    if not isinstance(kind, Rows):
        call.same("slice_sizes")
        return [WHOLE]
    for shape, out in ((call.shapes[0], call.outs[0]), (call.other_shapes[0], call.other_outs[0])):
        call.needs(shape[kind.axis] == out[kind.axis])
    return [kind]


def _dynamic_update_slice(call: Call) -> list[Kind]:
    call.same_but("jaxpr")
    _plain(call)
    into, update, *starts = call.kinds
    call.needs(all(each is WHOLE for each in starts) and into == update)
    if isinstance(into, Rows):
        for shapes in (call.shapes, call.other_shapes):
            call.needs(shapes[0][into.axis] == shapes[1][into.axis])
    return [into]


def _gather(call: Call) -> list[Kind]:
    call.same_but("slice_sizes")
    _plain(call)
    numbers, (operand, indices) = call.params["dimension_numbers"], call.kinds
    out_rank = len(call.outs[0])
    of_indices = [axis for axis in range(out_rank) if axis not in numbers.offset_dims]
    sizes = [
        (call.params["slice_sizes"], call.shapes[0]),
        (call.other_params["slice_sizes"], call.other_shapes[0]),
    ]
    if isinstance(indices, Rows):
        call.needs(indices.axis < len(call.shapes[1]) - 1)
        place = Rows(of_indices[indices.axis], indices.num_inner)
        if not isinstance(operand, Rows):
            call.same("slice_sizes")
            return [place]
        call.needs(operand.num_inner == indices.num_inner)
        pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
        call.needs((operand.axis, indices.axis) in pairs)
        call.same("slice_sizes")
        return [place]
    if not isinstance(operand, Rows):
        call.same("slice_sizes")
        return [WHOLE]
    taken = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    call.needs(operand.axis not in (*taken, *numbers.start_index_map))
    for slice_sizes, shape in sizes:
        call.needs(slice_sizes[operand.axis] == shape[operand.axis])
    kept = [axis for axis in range(len(call.shapes[0])) if axis not in taken]
    return [Rows(numbers.offset_dims[kept.index(operand.axis)], operand.num_inner)]


def _tile(call: Call) -> list[Kind]:
    call.same_but()
    found = _plain_rows(call)
    call.needs(found is None or call.params["reps"][found.axis] == 1)
    return [found or WHOLE]


def _pad(call: Call) -> list[Kind]:
    call.same_but()
    _plain(call)
    kind, value = call.kinds
    call.needs(value is WHOLE)
    call.needs(not isinstance(kind, Rows) or call.params["padding_config"][kind.axis] == (0, 0, 0))
    return [kind]


def _top_k(call: Call) -> list[Kind]:
    call.same_but()
    found = _plain_rows(call)
    axis = call.params.get("axis", -1) % len(call.shapes[0])
    call.needs(found is None or found.axis != axis)
    return [found or WHOLE] * len(call.outs)


def _inner_program(name: str) -> Callable[[Call], list[Kind]]:
    def rule(call: Call) -> list[Kind]:
        return call.of_program(call.params[name], call.other_params[name], call.kinds)

    return rule


def _cond(call: Call) -> list[Kind]:
    which, *given = call.kinds
    call.needs(which is WHOLE, "of a condition that depends on rows")
    branches = paired(call.params["branches"], call.other_params["branches"])
    found = [call.of_program(*each, given) for each in branches]
    call.needs(all(each == found[0] for each in found))
    return found[0]


def _scan(call: Call) -> list[Kind]:
    call.same("length", "num_consts", "num_carry", "reverse")
    num_consts, num_carry = call.params["num_consts"], call.params["num_carry"]
    _plain(call)
    before, xs = call.kinds[: num_consts + num_carry], call.kinds[num_consts + num_carry :]
    call.needs(not any(isinstance(kind, Rows) and kind.axis == 0 for kind in xs))
    inner = [replace(kind, axis=kind.axis - 1) if isinstance(kind, Rows) else kind for kind in xs]
    found = call.of_program(call.params["jaxpr"], call.other_params["jaxpr"], [*before, *inner])
    carry, ys = found[:num_carry], found[num_carry:]
    call.needs(carry == before[num_consts:])
    call.needs(all(_is_plain(kind) for kind in ys))
    return [*carry, *(replace(k, axis=k.axis + 1) if isinstance(k, Rows) else k for k in ys)]


def _only(call: Call) -> Kind:
    call.needs(len(call.kinds) == 1 and not isinstance(call.kinds[0], Count))
    return call.kinds[0]


def _plain(call: Call) -> None:
    call.needs(all(_is_plain(kind) for kind in call.kinds), "of a sum over the rows")


def _is_plain(kind: Kind) -> bool:
    return isinstance(kind, Rows) or kind is WHOLE


def _plain_rows(call: Call) -> Rows | None:
    _plain(call)
    return call.rows()


_ELEMENTWISE = (
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "cbrt",
    "ceil",
    "clamp", "clz", "convert_element_type", "copy", "cos", "cosh", "digamma", "div", "eq", "erf", "erf_inv",
    "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "lgamma", "log",
    "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "population_count",
    "pow", "reduce_precision", "rem", "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh",
    "xor",
)  # fmt: skip
RULES: dict[str, Callable[[Call], list[Kind]]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "split"), _along("axis")),
    "sort": _along("dimension"),
    "rev": _along("dimensions"),
    "concatenate": _along("dimension"),
    "top_k": _top_k,
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor",
         "argmax", "argmin"), _reduce
    ),
    **dict.fromkeys(("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min",
         "select_and_gather_add"), _window),
    "optimization_barrier": _each_alone,
    **dict.fromkeys(("random_wrap", "random_unwrap"), _same_for_all),
    "broadcast_in_dim": _broadcast,
    "iota": _iota,
    "reshape": _reshape,
    "squeeze": _reshape,
    "transpose": _transpose,
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "pad": _pad,
    "tile": _tile,
    "jit": _inner_program("jaxpr"),
    "pjit": _inner_program("jaxpr"),
    "closed_call": _inner_program("call_jaxpr"),
    "checkpoint": _inner_program("jaxpr"),
    "remat2": _inner_program("jaxpr"),
    "custom_jvp_call": _inner_program("call_jaxpr"),
    "custom_vjp_call": _inner_program("call_jaxpr"),
    "cond": _cond,
    "scan": _scan,
}  # fmt: skip
