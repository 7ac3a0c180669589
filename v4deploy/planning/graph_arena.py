"""ggml's graph allocator: one growing buffer, best fit among free blocks, neighbours merged."""

from __future__ import annotations

_ENDLESS = 1 << 62


class Arena:
    """Places tensors the way `ggml_dyn_tallocr` of llama.cpp b11434 does, so that its peak is the engine's own.

    The last free block is the endless rest of the buffer; it is taken only where no other block holds the tensor.
    """

    def __init__(self, alignment_bytes: int, free: tuple[tuple[int, int], ...] = ((0, _ENDLESS),)) -> None:
        """Begin empty, or with the free blocks (address and bytes, by address) of an earlier arena."""
        self._alignment_bytes = alignment_bytes
        self._starts = [start for start, _ in free]
        self._sizes = [size for _, size in free]
        self.peak_bytes = 0

    @property
    def free(self) -> tuple[tuple[int, int], ...]:
        """The free blocks: address and bytes."""
        return tuple(zip(self._starts, self._sizes, strict=True))

    def allocate(self, size_bytes: int) -> tuple[int, int]:
        """Place a tensor; its address and the bytes that it takes."""
        size = -(-size_bytes // self._alignment_bytes) * self._alignment_bytes
        starts, sizes = self._starts, self._sizes
        best, best_size = len(sizes) - 1, _ENDLESS
        for index in range(best):
            if size <= sizes[index] <= best_size:
                best, best_size = index, sizes[index]
        address = starts[best]
        if sizes[best] == size:
            del starts[best], sizes[best]
        else:
            starts[best] += size
            sizes[best] -= size
        self.peak_bytes = max(self.peak_bytes, address + size)
        return address, size

    def release(self, block: tuple[int, int]) -> None:
        """Give a block back, joined with the free ones beside it."""
        address, size = block
        starts, sizes = self._starts, self._sizes
        index = 0
        while starts[index] < address:
            index += 1
        follows = index > 0 and starts[index - 1] + sizes[index - 1] == address
        if address + size == starts[index]:
            starts[index] = address
            sizes[index] += size
            if follows:
                sizes[index - 1] += sizes[index]
                del starts[index], sizes[index]
        elif follows:
            sizes[index - 1] += size
        else:
            starts.insert(index, address)
            sizes.insert(index, size)
