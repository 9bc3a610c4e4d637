"""Agreements between real processes, and alone."""

import json

import fourbeat as fb
from tests.distributed import processes

SCRIPT = """
    import json, threading
    import fourbeat as fb
    from fourbeat.distributed import agreement, runtime

    joining = threading.Thread(target=fb.distributed.initialize)  # as in a worker of Ray
    joining.start()
    joining.join()
    from jax._src import xla_bridge

    index, seen = fb.distributed.process_index(), {}
    seen["who"] = [fb.distributed.num_processes(), index, fb.distributed.speaks()]
    seen["gather"] = fb.distributed.gather({"of": (index, None)})
    seen["broadcast"] = fb.distributed.broadcast(f"from {index}")
    seen["any"] = [fb.distributed.any_of(index == 2), fb.distributed.any_of(False)]
    fb.distributed.barrier("all here")
    other = threading.Thread(target=lambda: seen.update(thread=fb.distributed.gather(-index, topic="other")))
    other.start()
    seen["beside"] = [fb.distributed.gather(number + index) for number in range(20)][-1]
    other.join()
    errors = []
    for wrong in (
        lambda: fb.distributed.barrier("first" if index == 0 else "second"),
        lambda: index == 1 or fb.distributed.gather(0, topic="two of three", timeout_s=0.5),
        lambda: index == 0 or fb.distributed.gather(0, topic="without the first", timeout_s=0.5),
    ):
        fb.distributed.barrier("next")
        try:
            wrong()
        except fb.distributed.PeerError as error:
            errors.append(str(error))
    seen["errors"] = errors
    fb.distributed.barrier("before counting")
    seen["keys"] = len(runtime.client().key_value_dir_get("fourbeat/main"))
    seen["backend"] = xla_bridge.backends_are_initialized()
    fb.distributed.barrier("counted")
    print(json.dumps(seen))
"""


def test_processes_agree_without_a_device(tmp_path):
    proxy = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "elsewhere"}  # which JAX would ask for process 0
    seen = [json.loads(output) for output in processes.succeed(SCRIPT, 3, tmp_path, environment=proxy)]
    for index, each in enumerate(seen):
        assert each["who"] == [3, index, index == 0]
        assert each["gather"] == [{"of": [0, None]}, {"of": [1, None]}, {"of": [2, None]}]
        assert each["broadcast"] == "from 0"
        assert each["any"] == [True, False]
        assert each["thread"] == [0, -1, -2]
        assert each["beside"] == [19, 20, 21]
        assert each["keys"] <= 6  # of the last two agreements, and of none of the thirty before them
        assert not each["backend"]
    program = "Every process has to run the same program"
    other = (
        "process 0 came to barrier 'first' and process 1 to barrier 'second' (topic 'main'). "
        f"{program}: let no condition differ between them."
    )
    for index, errors in enumerate(each["errors"] for each in seen):
        missing = [
            f"process {late} of 3 did not come to gather (topic {topic!r}) within 0.5 s; this is process "
            f"{index}. Look at what they printed: {program.lower()[0] + program[1:]}."
            for late, topic in ((1, "two of three"), (0, "without the first"))
            if late != index
        ]
        assert errors == [other, *missing]


def test_one_process_agrees_with_itself():
    assert (fb.distributed.num_processes(), fb.distributed.process_index()) == (1, 0)
    assert fb.distributed.speaks()
    value = object()
    assert fb.distributed.gather(value) == [value]
    assert fb.distributed.broadcast(value) is value
    assert fb.distributed.any_of(True) and not fb.distributed.any_of(False)
    fb.distributed.barrier("alone")
