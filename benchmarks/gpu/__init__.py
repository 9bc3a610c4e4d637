"""The main job on a GPU: precisions and batch sizes, fused and not, beside PyTorch, and the roofline."""
