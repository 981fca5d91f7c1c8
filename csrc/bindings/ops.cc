#include "bindings/ops.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "cpu/backend.h"

namespace py = pybind11;

namespace glm {
namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Bytes = py::array_t<uint8_t, py::array::c_style>;
using Halves = py::array_t<uint16_t, py::array::c_style>;

Tensor view(const Floats& x) {
  const bool vector = x.ndim() == 1;
  return {const_cast<float*>(x.data()), DType::f32, vector ? 1 : x.shape(0), vector ? x.shape(0) : x.shape(1)};
}

Floats empty(int64_t rows, int64_t cols) {
  return Floats({rows, cols});
}

const cpu::Kernels& kernels_named(const std::string& name) {
  for (const cpu::Kernels* k : cpu::available_kernels()) {
    if (k->name == name) return *k;
  }
  throw Error(concat("this machine has no kernels named ", name));
}

// A weight [n, m] over the bytes of its packed form; dtype is f16, i8 or i4.
Weight weight(const Bytes& data, const std::string& dtype, const Halves& scale, int64_t n, int64_t m) {
  const DType type = dtype == "f16" ? DType::f16 : dtype == "i8" ? DType::i8 : DType::i4;
  GLM_CHECK(data.size() == bytes_of(type, n * m), "weight: ", n, "x", m, " ", dtype, " takes ", bytes_of(type, n * m),
            " bytes; got ", data.size());
  return {type, n, m, data.data(), type == DType::f16 ? nullptr : reinterpret_cast<const Half*>(scale.data())};
}

}  // namespace

void bind_ops(py::module_& m) {
  py::module_ ops = m.def_submodule("ops", "Single ops of the CPU backend, for tests.");
  ops.def("kernels", [] {
    std::vector<std::string> names;
    for (const cpu::Kernels* k : cpu::available_kernels()) names.emplace_back(k->name);
    return names;
  });
  ops.def("half_round", [](const Floats& x) {
    Floats out(x.size());
    for (py::ssize_t i = 0; i < x.size(); ++i) out.mutable_data()[i] = round_to_half(x.data()[i]);
    return out;
  });
  ops.def("linear", [](const std::string& kernels, const Floats& x, const Bytes& data, const std::string& dtype,
                       const Halves& scale, int64_t n, const Floats& bias, bool geglu) {
    cpu::CpuBackend backend(kernels_named(kernels));
    const Tensor in = view(x);
    const Weight w = backend.load(weight(data, dtype, scale, n, in.cols));
    Floats out = empty(in.rows, geglu ? n / 2 : n);
    const Tensor b = bias.size() == 0 ? Tensor{} : view(bias);
    geglu ? backend.geglu_linear(view(out), in, w, b) : backend.linear(view(out), in, w, b);
    return out;
  });
  ops.def("layernorm", [](const Floats& x, const Floats& gamma, const Floats& beta, float eps) {
    cpu::CpuBackend backend(cpu::kernels());
    Floats out = empty(x.shape(0), x.shape(1));
    backend.layernorm(view(out), view(x), view(gamma), view(beta), eps);
    return out;
  });
  ops.def("residual_layernorm", [](const Floats& sum, const Floats& bias, const Floats& residual, float alpha,
                                   const Floats& gamma, const Floats& beta, float eps) {
    cpu::CpuBackend backend(cpu::kernels());
    Floats out = empty(sum.shape(0), sum.shape(1));
    Floats scratch(py::array_t<float>(sum.request()));
    backend.residual_layernorm(view(out), view(scratch), view(bias), view(residual), alpha, view(gamma), view(beta),
                               eps);
    return out;
  });
  // sequences: (rows, cached, prefix, blocks); earlier: (k, v) [tokens, heads, d] pairs put into the cache before.
  ops.def("attention", [](const std::string& kernels, const Floats& qkv, const std::vector<int>& positions, int heads,
                          int num_blocks, int block_size, int max_positions,
                          const std::vector<std::tuple<int, int, int, std::vector<int>>>& sequences,
                          const std::vector<Floats>& earlier) {
    cpu::CpuBackend backend(kernels_named(kernels));
    const int d = static_cast<int>(qkv.shape(1)) / heads / 3;
    backend.allocate_kv(1, heads, d, num_blocks, block_size, max_positions);
    // What was cached comes from passes of its own, one per sequence.
    int row = 0;
    Pass pass;
    pass.positions = positions;
    pass.tokens.resize(positions.size());
    for (size_t i = 0; i < sequences.size(); ++i) {
      const auto& [rows, cached, prefix, blocks] = sequences[i];
      if (cached > 0) {
        Pass before;
        before.tokens.resize(static_cast<size_t>(cached));
        for (int p = 0; p < cached; ++p) before.positions.push_back(p);
        before.sequences.push_back({0, cached, 0, prefix, blocks});
        Floats copy(py::array_t<float>(earlier[i].request()));
        Floats ignored = empty(cached, int64_t{heads} * d);
        backend.begin(before);
        backend.attention(view(ignored), view(copy), 0);
      }
      pass.sequences.push_back({row, rows, cached, prefix, blocks});
      row += rows;
    }
    Floats out = empty(qkv.shape(0), int64_t{heads} * d);
    Floats copy(py::array_t<float>(qkv.request()));
    backend.begin(pass);
    backend.attention(view(out), view(copy), 0);
    return out;
  });
  ops.def("sampling_probabilities", [](const Floats& logits, float temperature, int top_k, float top_p) {
    SampleRow row;
    row.temperature = temperature;
    row.top_k = top_k;
    row.top_p = top_p;
    return cpu::sampling_probabilities(row, logits.data(), static_cast<int>(logits.size()));
  });
  ops.def("sample", [](const Floats& logits, float temperature, int top_k, float top_p, uint64_t seed, uint32_t choice,
                       uint32_t step) {
    SampleRow row;
    row.temperature = temperature;
    row.top_k = top_k;
    row.top_p = top_p;
    row.seed = seed;
    row.choice = choice;
    row.step = step;
    return cpu::sample_row(row, logits.data(), static_cast<int>(logits.size())).token;
  });
}

}  // namespace glm
