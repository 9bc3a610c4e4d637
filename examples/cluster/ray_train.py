"""A recipe on several workers of Ray Train: Ray starts them, and starts them again when one is lost.

The run and its checkpoints are fourbeat's own: a new group of workers goes on with the run in `--out`, a
directory that all workers share, or an address such as s3://bucket/runs/mnist.

    python examples/cluster/ray_train.py --workers 2 --out /shared/runs/mnist --steps 2000 --save-every 100
"""

import argparse
import os

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.jax import JaxTrainer


def train(flags):
    """What each worker runs, again after each failure."""
    import fourbeat as fb
    from fourbeat.recipes.mnist_cnn import MnistCNN, train

    fb.distributed.initialize()  # joins the workers of this group
    train(MnistCNN(resume="latest", **flags))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpus", type=int, default=0, help="of each worker")
    parser.add_argument("--failures", type=int, default=3, help="after so many the run ends")
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=9325)
    parser.add_argument("--save-every", type=int, default=100)
    arguments = parser.parse_args()

    out = arguments.out if "://" in arguments.out else os.path.abspath(arguments.out)
    resources = {"GPU": arguments.gpus} if arguments.gpus else {"CPU": 1}
    JaxTrainer(
        train,
        train_loop_config={
            "out": out,
            "steps": arguments.steps,
            "save_every": arguments.save_every,
        },
        scaling_config=ScalingConfig(num_workers=arguments.workers, resources_per_worker=resources),
        run_config=RunConfig(
            name=os.path.basename(out),
            storage_path=f"{os.path.dirname(out)}/ray",
            failure_config=FailureConfig(max_failures=arguments.failures),
        ),
    ).fit()


if __name__ == "__main__":
    main()
