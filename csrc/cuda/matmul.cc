#include "cuda/matmul.h"

namespace glm::cuda {

void prepare_matmul(const MatmulContext& context) {
  if (!context.hopper) return;
  prepare_matmul_single();
  prepare_matmul_batch();
  prepare_matmul_prompt();
}

void matmul(const MatmulContext& context, const PackedWeight& w, const Matmul& m, MatmulKernel kernel) {
  if (m.tokens <= 0) return;
  const bool automatic = kernel == MatmulKernel::automatic;
  if ((automatic && !context.reproducible) || kernel == MatmulKernel::single) {
    if (matmul_single(context, w, m)) return;
  }
  if (automatic || kernel == MatmulKernel::batch) {
    if (matmul_batch(context, w, m)) return;
  }
  if (automatic || kernel == MatmulKernel::prompt) {
    if (matmul_prompt(context, w, m)) return;
  }
  matmul_any(context, w, m);
}

}  // namespace glm::cuda
