// Packed codes to FP16 fragments in a lane's registers (packed.h has the form). The scale of a row is not applied here:
// it multiplies the fp32 sum once. An integer code becomes an FP16 number by putting it into the mantissa of 1024.
#pragma once

#include "cuda/device.cuh"

namespace glm::cuda {

__device__ __forceinline__ uint32_t mask_magic(uint32_t word, uint32_t mask) {
  uint32_t r;
  asm("lop3.b32 %0,%1,%2,%3,0xea;" : "=r"(r) : "r"(word), "r"(mask), "r"(0x64006400));
  return r;
}

__device__ __forceinline__ uint32_t subtract_half2(uint32_t a, uint32_t b) {
  uint32_t r;
  asm("sub.f16x2 %0,%1,%2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}

__device__ __forceinline__ uint32_t fma_half2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t r;
  asm("fma.rn.f16x2 %0,%1,%2,%3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}

// The 16 bytes of chunk `Chunk` give 4 / (Bits / 4) steps of 16 columns, 4 registers each.
template <int Bits>
__device__ __forceinline__ void unpack_chunk(uint32_t* a, uint4 q) {
  const uint32_t word[4] = {q.x, q.y, q.z, q.w};
  if constexpr (Bits == 4) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t high = word[j] >> 8;
      a[4 * j] = subtract_half2(mask_magic(word[j], 0x000f000f), 0x64086408);             // 1024 + u - 1032
      a[4 * j + 1] = fma_half2(mask_magic(word[j], 0x00f000f0), 0x2c002c00, 0xd480d480);  // (1024 + 16 u) / 16 - 72
      a[4 * j + 2] = subtract_half2(mask_magic(high, 0x000f000f), 0x64086408);
      a[4 * j + 3] = fma_half2(mask_magic(high, 0x00f000f0), 0x2c002c00, 0xd480d480);
    }
  } else if constexpr (Bits == 8) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint32_t w = word[2 * j + h];
        a[4 * j + 2 * h] = subtract_half2(__byte_perm(w, 0x64646464, 0x4140), 0x64806480);  // 1024 + u - 1152
        a[4 * j + 2 * h + 1] = subtract_half2(__byte_perm(w, 0x64646464, 0x4342), 0x64806480);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = word[i];
  }
}

// The 16 registers of a 16x64 tile from the lane's `Bits / 4` chunks, 512 bytes apart.
template <int Bits>
__device__ __forceinline__ void unpack_tile(uint32_t (&a)[16], const uint8_t* lane_chunks) {
#pragma unroll
  for (int c = 0; c < Bits / 4; ++c) {
    unpack_chunk<Bits>(a + c * (64 / Bits), *reinterpret_cast<const uint4*>(lane_chunks + c * 512));
  }
}

// c[4] += A (16x16) B (16x8) on any architecture with tensor cores of its generation or later.
__device__ __forceinline__ void mma_16816(float* c, const uint32_t* a, uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

}  // namespace glm::cuda
