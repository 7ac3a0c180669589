"""A layout in the words that people type for it too."""

from __future__ import annotations

from v4deploy.domain.plan import Layout


def layout_words(layout: Layout) -> str:
    """The layout in a few words: `TP8 + EP`, `1 device, experts of 38 layers in host memory`, `CPU`.

    `--layout` takes them back.
    """
    count = len(layout.device_indices)
    if not count:
        return "CPU"
    layers = layout.host_expert_layers
    text = _spread(layout) or _devices(count)
    return text + (f", experts of {layers} layer{'s' if layers > 1 else ''} in host memory" if layers else "")


def layout_over(layout: Layout) -> str:
    """The same with the number of devices in any case: `TP8 + EP over 8 devices`."""
    spread = _spread(layout)
    return f"{spread} over {_devices(len(layout.device_indices))}" if spread else layout_words(layout)


def _spread(layout: Layout) -> str:
    sizes = (("TP", layout.tensor_parallel), ("PP", layout.pipeline_parallel), ("DP", layout.data_parallel))
    return " + ".join(
        [*(f"{name}{size}" for name, size in sizes if size > 1), *(["EP"] if layout.expert_parallel else [])]
    )


def _devices(count: int) -> str:
    return f"{count} device{'s' if count > 1 else ''}"
