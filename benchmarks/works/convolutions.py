"""XLA's choice of convolutions on CPU, beside Eigen's and beside products of patches with a matrix."""

from benchmarks.work import Side, Work
from benchmarks.works.mnist_cnn import WORKS as MNIST_CNN

FACTORY = "benchmarks.peers.fourbeat_loop:Fourbeat"
OWN = "nnx.Conv"

WORKS = [
    Work(
        name="convolutions",
        title="mnist-cnn, batch 32, three ways to convolve: a step",
        sides={
            OWN: Side(FACTORY),
            "nnx.Conv, Eigen's convolutions": Side(FACTORY, options={"eigen": True}),
            "patches times matrix": Side(FACTORY, options={"model": "mnist-cnn by patches"}),
        },
        against=OWN,
        job=MNIST_CNN[0].job,
        amount=150,
        learn=300,
        must=MNIST_CNN[0].must,
        notes=(
            "The model is the same; its sums are taken in another order. Patches belong in the model that "
            "wants them (`PatchesConv` in `benchmarks/peers/nnx_models.py`, ten lines in place of "
            "`nnx.Conv`); Eigen's convolutions are an option of the compilation, and leave the model as it "
            "is.",
        ),
    )
]
