// Rotary positions and the way of keys and values into the cache; copies of cache blocks.
#include "cuda/attention.h"
#include "cuda/device.cuh"
#include "cuda/launch.h"

namespace glm::cuda {
namespace {

// grid [rows, heads]; a thread rotates pairs (i, i + d / 2).
__global__ void rotate_kernel(__half* qkv, const KvLayer kv, const RotaryTable rotary, const PassView pass) {
  dependency_launch();
  dependency_wait();
  const int row = blockIdx.x, head = blockIdx.y, d = kv.head_dim, half_d = d / 2;
  const int sequence = pass.row_sequence[row];
  const int token = pass.cached[sequence] + row - pass.first_row[sequence];
  const int block = pass.blocks[sequence * pass.max_blocks + token / kv.block_size], at = token % kv.block_size;
  __half* q = qkv + (static_cast<size_t>(row) * kv.heads + head) * 3 * d;
  __half* key = kv.data + kv.offset(block, 0, head, at);
  __half* value = kv.data + kv.offset(block, 1, head, at);
  const size_t angle = static_cast<size_t>(pass.positions[row]) * half_d;
  for (int i = threadIdx.x; i < half_d; i += blockDim.x) {
    const float c = __half2float(rotary.cos[angle + i]), s = __half2float(rotary.sin[angle + i]);
    const float qa = __half2float(q[i]), qb = __half2float(q[i + half_d]);
    q[i] = __float2half(qa * c - qb * s);
    q[i + half_d] = __float2half(qb * c + qa * s);
    const float ka = __half2float(q[d + i]), kb = __half2float(q[d + i + half_d]);
    key[i] = __float2half(ka * c - kb * s);
    key[i + half_d] = __float2half(kb * c + ka * s);
    value[i] = q[2 * d + i];
    value[i + half_d] = q[2 * d + i + half_d];
  }
}

// grid [pairs, pieces]
__global__ void copy_kernel(const KvLayer kv, const int* pairs, int64_t halves) {
  const __half* from = kv.data + pairs[2 * blockIdx.x] * halves;
  __half* to = kv.data + pairs[2 * blockIdx.x + 1] * halves;
  for (int64_t i = blockIdx.y * int64_t{blockDim.x} + threadIdx.x; i < halves; i += int64_t{gridDim.y} * blockDim.x) {
    to[i] = from[i];
  }
}

}  // namespace

void rotate_and_append(__half* qkv, const KvLayer& kv, const RotaryTable& rotary, const PassView& pass, bool overlap,
                       cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(pass.total_rows), static_cast<unsigned>(kv.heads));
  const unsigned threads = static_cast<unsigned>((kv.head_dim / 2 + 31) / 32 * 32);
  launch(Launch{grid, dim3(threads < 256 ? threads : 256), 0, stream, overlap}, rotate_kernel, qkv, kv, rotary, pass);
}

void copy_kv_blocks(const KvLayer& kv, const int* pairs, int count, cudaStream_t stream) {
  const int64_t halves = kv.offset(1, 0, 0, 0);
  launch(Launch{dim3(static_cast<unsigned>(count), 8), dim3(256), 0, stream, false}, copy_kernel, kv, pairs, halves);
}

}  // namespace glm::cuda
