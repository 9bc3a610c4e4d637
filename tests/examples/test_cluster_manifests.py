"""The manifests of `examples/cluster/`: of their published forms, and each process learns who it is."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet
from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob

from fourbeat.distributed import launchers

FOLDER = Path(__file__).parents[2] / "examples" / "cluster"
FORMS = {
    "jobset": JobsetV1alpha2JobSet,
    "trainjob": TrainerV1alpha1TrainJob,
}  # as Kubeflow Trainer publishes them
READ = {name: yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) for name in FORMS}
COMMAND = ["fourbeat", "train", "mnist-cnn", "--out", "/runs/fourbeat", "--resume", "latest"]


def is_of_its_form(name, manifest):
    """Whether the published form takes it, and knows each of its fields: one it does not know is lost."""
    try:
        return FORMS[name].from_dict(manifest).to_dict() == manifest
    except ValueError:
        return False


@pytest.mark.parametrize("name", FORMS)
def test_a_manifest_is_of_its_published_form_and_with_any_field_misspelt_it_is_not(name):
    assert is_of_its_form(name, READ[name])
    misspelt = [path for path in fields(READ[name]) if "labels" not in path]
    assert len(misspelt) > 20
    for path in misspelt:
        changed = copy.deepcopy(READ[name])
        held = changed
        for part in path[:-1]:
            held = held[part]
        held[f"{path[-1]}x"] = held.pop(path[-1])
        assert not is_of_its_form(name, changed), path


def fields(value, path=()):
    """The paths to all fields of a manifest."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from fields(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from fields(inner, (*path, place))


@pytest.mark.parametrize("file", ["jobset.yaml", "trainjob.yaml", "train.sbatch"])
def test_the_two_lines_that_a_user_changes_are_marked(file):
    marked = re.findall(r"^(.*\S)\s+# CHANGE (\d) of 2", (FOLDER / file).read_text(), re.MULTILINE)
    assert [number for _, number in marked] == ["1", "2"]
    assert re.search(r"(replicas: |numNodes: |--nodes=)2$", marked[0][0])
    assert re.search(r"image: registry|^command=\(", marked[1][0])


def test_each_pod_of_the_jobset_learns_who_it_is_from_the_labels_that_jobset_sets():
    job_set = READ["jobset"]
    [job] = job_set["spec"]["replicatedJobs"]
    [container] = job["template"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == COMMAND
    name, num_machines = job_set["metadata"]["name"], job["replicas"]
    for index in range(num_machines):
        labels = {  # https://jobset.sigs.k8s.io/docs/reference/labels-and-annotations/
            "jobset.sigs.k8s.io/jobset-name": name,
            "jobset.sigs.k8s.io/replicatedjob-replicas": str(num_machines),
            "jobset.sigs.k8s.io/job-index": str(index),
        }
        variables = given_variables(container["env"], labels)
        # the name in the network of a pod: of its JobSet, its job, the job's index, its own index in the job
        first, port = f"{name}-{job['name']}-0-0.{name}", container["ports"][0]["containerPort"]
        assert launchers.place(variables)[1:4] == (f"{first}:{port}", num_machines, index)


def given_variables(env, labels):
    """As Kubernetes gives them: in order, and `$(NAME)` is the value of one before."""
    variables = {}
    for variable in env:
        if "value" in variable:
            given = re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], variable["value"])
        else:
            path = variable["valueFrom"]["fieldRef"]["fieldPath"]
            given = labels[re.fullmatch(r"metadata\.labels\['(.*)'\]", path)[1]]
        variables[variable["name"]] = given
    return variables


def test_a_process_of_the_trainjob_learns_who_it_is_from_the_runtime():
    spec = READ["trainjob"]["spec"]
    assert (spec["runtimeRef"]["name"], spec["trainer"]["command"]) == ("jax-distributed", COMMAND)
    [patched] = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    [container] = patched["template"]["spec"]["template"]["spec"]["containers"]
    assert patched["name"] == container["name"] == "node"  # what the runtime calls its job and its container
    variables = {  # https://www.kubeflow.org/docs/components/trainer/user-guides/jax
        "JAX_COORDINATOR_ADDRESS": "fourbeat-node-0-0.fourbeat:29500",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
    }
    assert launchers.place(variables)[1:4] == ("fourbeat-node-0-0.fourbeat:29500", 2, 1)
