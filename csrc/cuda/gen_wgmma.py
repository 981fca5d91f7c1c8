"""Writes the wgmma wrappers: m64nNk16, A (weights) from registers, B (activations) from shared memory, fp32 sums."""

import sys
from pathlib import Path

WRAPPER = """__device__ __forceinline__ void wgmma(float (&c)[{count}], const uint32_t* a, uint64_t b) {{
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n{n}k16.f32.f16.f16 {{{sums}}}, {{{operands}}}, %{descriptor}, 1, 1, 1, 0;"
      : {outputs}
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}}
"""


def wrapper(n: int) -> str:
    """The wrapper for n columns: n / 2 accumulators a thread."""
    count = n // 2
    return WRAPPER.format(
        n=n,
        count=count,
        sums=",".join(f"%{i}" for i in range(count)),
        operands=",".join(f"%{count + i}" for i in range(4)),
        descriptor=count + 4,
        outputs=", ".join(f'"+f"(c[{i}])' for i in range(count)),
    )


Path(sys.argv[1]).write_text("".join(wrapper(n) for n in (8, 16, 32, 64, 128, 256)), encoding="utf-8")
