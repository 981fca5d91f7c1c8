// Describes activations [tokens, cols] (f16, row-major) to the copy engine: boxes of 64 columns, swizzled for wgmma;
// what lies outside reads as zero.
#pragma once

#include <cuda.h>
#include <cuda_fp16.h>

namespace glm::cuda {

// True where the copy engine can read such rows: 16-byte aligned.
bool tensor_map_possible(const __half* x, int cols);
CUtensorMap tensor_map(const __half* x, int tokens, int cols, int box_tokens);

}  // namespace glm::cuda
