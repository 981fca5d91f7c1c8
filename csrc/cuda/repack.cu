// Row-major weights to the packed form, on the device, once at load; and the way back for single rows (embedding).
#include <algorithm>

#include "cuda/device.cuh"
#include "cuda/launch.h"
#include "cuda/packed.h"

namespace glm::cuda {
namespace {

// The row of the source that a packed row holds; -1: padding.
__device__ int source_row(int packed, RowRange range, bool paired) {
  const int row = (paired ? packed / 16 * 8 + packed % 8 : packed) - range.first;
  if (row >= range.count) return -1;
  return paired && packed % 16 >= 8 ? range.count + row : row;
}

// The stored code of one value.
template <int Bits>
__device__ uint32_t code(const void* source, int row, int col, int cols) {
  const bool inside = row >= 0 && col < cols;
  const size_t index = static_cast<size_t>(row) * cols + col;
  if constexpr (Bits == 4) {
    if (!inside) return 8;
    const uint32_t byte = static_cast<const uint8_t*>(source)[index / 2];
    const uint32_t nibble = (col & 1) ? byte & 15u : byte >> 4;
    return (nibble + 8u) & 15u;  // two's complement to offset 8
  } else if constexpr (Bits == 8) {
    return inside ? static_cast<const uint8_t*>(source)[index] ^ 0x80u : 0x80u;
  } else {
    return inside ? static_cast<const uint16_t*>(source)[index] : 0u;
  }
}

// One thread packs 16 bytes of one lane.
template <int Bits>
__global__ void repack_kernel(uint4* out, const void* source, RowRange range, int begin, int cols, bool paired,
                              int kblocks, int64_t chunks) {
  constexpr int kChunks = Bits / 4;  // of a 16x64 tile
  const int64_t index = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (index >= chunks) return;
  const int lane = index % 32, chunk = index / 32 % kChunks, tile = index / (32 * kChunks) % 4;
  const int64_t block = index / (128 * kChunks);
  const int k0 = static_cast<int>(block % kblocks) * 64,
            row0 = begin + static_cast<int>(block / kblocks) * 64 + tile * 16;
  const int g = lane / 4, t = lane % 4;
  const int row[2] = {source_row(row0 + g, range, paired), source_row(row0 + g + 8, range, paired)};
  uint32_t word[4];
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    uint32_t v = 0;
    if constexpr (Bits == 4) {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const int u = n & 1, h = n >> 1 & 1, e = n >> 2;
        v |= code<4>(source, row[u], k0 + 16 * w + 8 * h + 2 * t + e, cols) << (4 * n);
      }
    } else if constexpr (Bits == 8) {
      const int j = 2 * chunk + w / 2, h = w & 1;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        v |= code<8>(source, row[n >> 1], k0 + 16 * j + 8 * h + 2 * t + (n & 1), cols) << (8 * n);
      }
    } else {
      const int h = w >> 1, u = w & 1;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        v |= code<16>(source, row[u], k0 + 16 * chunk + 8 * h + 2 * t + e, cols) << (16 * e);
      }
    }
    word[w] = v;
  }
  out[index] = make_uint4(word[0], word[1], word[2], word[3]);
}

// One block per token; a thread copies pairs of columns.
__global__ void embed_kernel(__half* out, const uint8_t* table, const int* ids, int rows, int cols, int kblocks,
                             int first_id) {
  dependency_launch();
  dependency_wait();
  const int id = ids[blockIdx.x] - first_id;
  const bool known = id >= 0 && id < rows;
  const int g = id % 8, u = id % 16 / 8;
#pragma unroll 6
  for (int k = threadIdx.x * 2; k < cols; k += blockDim.x * 2) {
    const int j = k % 64 / 16, h = k % 16 / 8, t = k % 8 / 2;
    uint32_t pair = 0;
    if (known) {
      const size_t tile = (static_cast<size_t>(id / 64) * kblocks + k / 64) * 4 + id % 64 / 16;
      pair = *reinterpret_cast<const uint32_t*>(table + tile * 2048 + j * 512 + (g * 4 + t) * 16 + (2 * h + u) * 4);
    }
    __half* to = out + static_cast<size_t>(blockIdx.x) * cols + k;
    to[0] = __ushort_as_half(static_cast<uint16_t>(pair));
    if (k + 1 < cols) to[1] = __ushort_as_half(static_cast<uint16_t>(pair >> 16));
  }
}

}  // namespace

RowRange source_rows(const PackedWeight& weight, int begin, int count) {
  const int scale = weight.paired ? 2 : 1, rows = weight.rows / scale;
  const int first = std::min(begin / scale, rows);
  return {first, std::min(rows, (begin + count) / scale) - first};
}

void repack(uint8_t* out, const void* source, const PackedWeight& weight, int begin, int count, cudaStream_t stream) {
  const size_t row_bytes = weight.packed_bytes() / weight.packed_rows();
  const int64_t chunks = static_cast<int64_t>(row_bytes * count / 16);
  const Launch how{dim3(static_cast<unsigned>((chunks + 255) / 256)), dim3(256), 0, stream, false};
  auto* kernel = weight.bits == 4 ? repack_kernel<4> : weight.bits == 8 ? repack_kernel<8> : repack_kernel<16>;
  launch(how, kernel, reinterpret_cast<uint4*>(out + row_bytes * begin), source, source_rows(weight, begin, count),
         begin, weight.cols, weight.paired, weight.kblocks(), chunks);
}

void embed_rows(__half* out, const PackedWeight& table, const int* ids, int tokens, int first_id, bool overlap,
                cudaStream_t stream) {
  GLM_CHECK(table.bits == 16 && !table.paired, "embedding: the table must be a plain FP16 matrix");
  launch(Launch{dim3(static_cast<unsigned>(tokens)), dim3(1024), 0, stream, overlap}, embed_kernel, out, table.data,
         ids, table.rows, table.cols, table.kblocks(), first_id);
}

}  // namespace glm::cuda
