"""Which library an object is of. A library that was not imported has made no object."""

import sys

from fourbeat.types import Object


def is_of(value: Object, module: str, *names: str) -> bool:
    """Whether a value is an instance of a class that this module hands on.

    >>> from collections import OrderedDict
    >>> is_of(OrderedDict(), "collections", "OrderedDict"), is_of(1, "a_module_that_is_not_there", "Thing")
    (True, False)
    """
    found = sys.modules.get(module)
    classes = tuple(getattr(found, name) for name in names if isinstance(getattr(found, name, None), type))
    return isinstance(value, classes)


def is_grain_map(value: Object) -> bool:
    """Whether this is Grain's `MapDataset`: examples, or batches, by index."""
    return is_of(value, "grain", "MapDataset")


def is_grain_iter(value: Object) -> bool:
    """Whether this is Grain's `IterDataset`."""
    return is_of(value, "grain", "IterDataset")


def is_grain_loader(value: Object) -> bool:
    """Whether this is Grain's `DataLoader`."""
    return is_of(value, "grain", "DataLoader")


def is_grain_iterator(value: Object) -> bool:
    """Whether this is an iterator of Grain's."""
    return is_of(value, "grain", "DatasetIterator", "DataLoaderIterator")


def is_stateful_loader(value: Object) -> bool:
    """Whether this is torchdata's `StatefulDataLoader`."""
    return is_of(value, "torchdata.stateful_dataloader", "StatefulDataLoader")


def is_torch_loader(value: Object) -> bool:
    """Whether this is PyTorch's `DataLoader`, without a state."""
    return is_of(value, "torch.utils.data", "DataLoader") and not is_stateful_loader(value)


def is_hugging_face_stream(value: Object) -> bool:
    """Whether this is the `IterableDataset` of Hugging Face `datasets`."""
    return is_of(value, "datasets", "IterableDataset")


def is_tf_dataset(value: Object) -> bool:
    """Whether this is a `tf.data.Dataset`."""
    return is_of(value, "tensorflow.data", "Dataset") or _is_of_attribute(
        value, "tensorflow", "data", "Dataset"
    )


def is_data_set(value: Object) -> bool:
    """Whether this is a library's data set that is read in order: it gives examples unless it was batched."""
    is_torch = is_of(value, "torch.utils.data", "IterableDataset")
    return is_grain_iter(value) or is_hugging_face_stream(value) or is_tf_dataset(value) or is_torch


def _is_of_attribute(value: Object, module: str, *path: str) -> bool:
    found = sys.modules.get(module)
    for name in path:
        found = getattr(found, name, None)
    return isinstance(found, type) and isinstance(value, found)
