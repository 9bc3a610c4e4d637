"""What launchers say of a process, from the variables that they set."""

import pytest

from fourbeat.distributed.launchers import Place, place

KUBEFLOW = {  # of its JAX runtime
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
    "JAX_COORDINATOR_ADDRESS": "train-node-0-0.train:6666",
    "JAX_COORDINATOR_PORT": "6666",
    "JAX_DISTRIBUTED_BACKEND": "gloo",
}
JOBSET = {
    "JOBSET_NAME": "train",
    "REPLICATED_JOB_NAME": "workers",
    "JOB_COMPLETION_INDEX": "1",  # of every indexed Job
    "JAX_NUM_PROCESSES": "2",
}
STEP = {
    "SLURM_JOB_ID": "4097",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "gpu[007-008,010],login",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
FOUR_GPUS = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}

KUBEFLOW_NAME = "the environment (JAX_NUM_PROCESSES)"
SEEN = {
    "nothing": ({}, Place()),
    "Kubeflow Trainer": (KUBEFLOW, Place(KUBEFLOW_NAME, "train-node-0-0.train:6666", 4, 3)),
    "a manifest of one's own": (
        {"JAX_NUM_PROCESSES": "2", "JAX_COORDINATOR_ADDRESS": "a:1"},
        Place(KUBEFLOW_NAME, "a:1", 2, None),
    ),
    "JobSet": (JOBSET, Place("JobSet", "train-workers-0-0.train:8476", 2, 1)),
    "JobSet with a port": (
        JOBSET | {"JAX_COORDINATOR_PORT": "99"},
        Place("JobSet", "train-workers-0-0.train:99", 2, 1),
    ),
    "JobSet with an address": (
        JOBSET | {"JAX_COORDINATOR_ADDRESS": "x:1", "JAX_PROCESS_ID": "0"},
        Place("JobSet", "x:1", 2, 0),
    ),
    "JobSet without a number": (
        {"JOBSET_NAME": "train", "JOB_COMPLETION_INDEX": "1"},
        Place("JobSet", None, None, 1),
    ),
    "Slurm": (STEP, Place("Slurm", "gpu007:61441", 4, 3)),
    "Slurm, GPUs seen by all tasks of a host": (
        STEP | FOUR_GPUS,
        Place("Slurm", "gpu007:61441", 4, 3, [1]),
    ),
    "Slurm, a GPU bound to each task": (
        STEP | {"CUDA_VISIBLE_DEVICES": "1"},
        Place("Slurm", "gpu007:61441", 4, 3),
    ),
    "Slurm, one task a host": (
        STEP | FOUR_GPUS | {"SLURM_STEP_TASKS_PER_NODE": "1(x4)"},
        Place("Slurm", "gpu007:61441", 4, 3),
    ),
    "Slurm, one host": (STEP | {"SLURM_STEP_NODELIST": "gpu7"}, Place("Slurm", "gpu7:61441", 4, 3)),
    "Slurm, a list of hosts": (
        STEP | {"SLURM_STEP_NODELIST": "a-1,b[2-3]"},
        Place("Slurm", "a-1:61441", 4, 3),
    ),
    "the script of sbatch, which is no step": (
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        Place(),
    ),
}


@pytest.mark.parametrize(("variables", "expected"), SEEN.values(), ids=SEEN)
def test_a_launcher_is_read_from_its_variables(variables, expected):
    assert place(variables) == expected


def test_a_variable_that_is_no_number_is_named():
    with pytest.raises(ValueError, match=r"^JAX_NUM_PROCESSES is 'two', not a whole number$"):
        place({"JAX_NUM_PROCESSES": "two"})
