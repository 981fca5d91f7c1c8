// The Python module glm_engine._core: conversions, the GIL and exceptions; nothing else.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/ops.h"
#include "runtime/engine.h"

namespace py = pybind11;

namespace glm {
namespace {

DType dtype_named(const std::string& name) {
  if (name == "f16") return DType::f16;
  if (name == "i8") return DType::i8;
  if (name == "i4") return DType::i4;
  throw Error(concat("unknown dtype ", name));
}

py::dict to_dict(const EngineStats& stats) {
  using namespace pybind11::literals;
  py::list recent;
  for (const StepRecord& r : stats.recent) {
    recent.append(py::make_tuple(r.prefill_rows, r.prefill_layers, r.decode_rows, r.seconds));
  }
  const SchedulerStats& s = stats.scheduler;
  return py::dict("waiting"_a = s.waiting, "running"_a = s.running, "kv_blocks_total"_a = s.blocks_total,
                  "kv_blocks_live"_a = s.blocks_live, "kv_blocks_cached"_a = s.blocks_cached,
                  "prompt_tokens"_a = s.prompt_tokens, "generated_tokens"_a = s.generated_tokens,
                  "preemptions"_a = s.preemptions, "prompts_reused"_a = s.prompts_reused, "cancelled"_a = s.cancelled,
                  "steps"_a = stats.steps, "busy"_a = stats.busy, "since_progress_s"_a = stats.since_progress_s,
                  "failure"_a = stats.failure, "recent_steps"_a = recent);
}

// Logits [len(ids), V]: the first context_length ids are the prompt.
py::array_t<float> score(Engine& engine, const std::vector<int>& ids, int context_length, int mask_position,
                         bool gmask) {
  const int vocab = engine.model().vocab_size;
  if (context_length < 1 || context_length > static_cast<int>(ids.size())) {
    throw RequestError("context_length", concat("must be 1 to ", ids.size(), " (the ids); got ", context_length));
  }
  Request prompt;
  prompt.prompt.assign(ids.begin(), ids.begin() + context_length);
  prompt.mask_position = mask_position;
  prompt.gmask = gmask;
  py::array_t<float> out({static_cast<py::ssize_t>(ids.size()), static_cast<py::ssize_t>(vocab)});
  float* to = out.mutable_data();
  const Executor::LogitSink sink = [&](int64_t first, int64_t count, const float* rows) {
    std::copy(rows, rows + count * vocab, to + first * vocab);
  };
  const py::gil_scoped_release release;
  engine.score(prompt, ids, sink);
  return out;
}

}  // namespace
}  // namespace glm

PYBIND11_MODULE(_core, m) {
  using namespace glm;
  m.doc() = "The compiled engine of GLM-130B.";

  py::register_exception<Error>(m, "Error");
  py::register_exception<QueueFullError>(m, "QueueFullError", m.attr("Error").ptr());
  // A RequestError carries its field as a second argument.
  static PyObject* request_error = PyErr_NewException("glm_engine._core.RequestError", m.attr("Error").ptr(), nullptr);
  m.add_object("RequestError", py::handle(request_error));
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const RequestError& error) {
      PyErr_SetObject(request_error, py::make_tuple(error.what(), error.field()).ptr());
    }
  });

  py::class_<ModelConfig>(m, "ModelConfig")
      .def(py::init<>())
      .def_readwrite("num_layers", &ModelConfig::num_layers)
      .def_readwrite("hidden_size", &ModelConfig::hidden_size)
      .def_readwrite("num_heads", &ModelConfig::num_heads)
      .def_readwrite("inner_size", &ModelConfig::inner_size)
      .def_readwrite("vocab_size", &ModelConfig::vocab_size)
      .def_readwrite("max_sequence_length", &ModelConfig::max_sequence_length)
      .def_readwrite("layernorm_eps", &ModelConfig::layernorm_eps)
      .def_readwrite("end_ids", &ModelConfig::end_ids);

  py::class_<EngineConfig>(m, "EngineConfig")
      .def(py::init<>())
      .def_readwrite("max_sequence_length", &EngineConfig::max_sequence_length)
      .def_readwrite("max_batch_size", &EngineConfig::max_batch_size)
      .def_readwrite("max_waiting", &EngineConfig::max_waiting)
      .def_readwrite("block_size", &EngineConfig::block_size)
      .def_readwrite("num_blocks", &EngineConfig::num_blocks)
      .def_readwrite("max_prefill_tokens", &EngineConfig::max_prefill_tokens)
      .def_readwrite("prefill_layer_tokens", &EngineConfig::prefill_layer_tokens);

  py::class_<ShardTensor>(m, "ShardTensor")
      .def(py::init([](std::string name, const std::string& dtype, int64_t rows, int64_t cols, int64_t offset) {
        return ShardTensor{std::move(name), dtype_named(dtype), rows, cols, offset};
      }));
  py::class_<ShardSource>(m, "ShardSource").def(py::init<std::string, std::vector<ShardTensor>>());

  py::class_<Sampling>(m, "Sampling")
      .def(py::init<>())
      .def_readwrite("temperature", &Sampling::temperature)
      .def_readwrite("top_k", &Sampling::top_k)
      .def_readwrite("top_p", &Sampling::top_p)
      .def_readwrite("seed", &Sampling::seed)
      .def_readwrite("repetition_penalty", &Sampling::repetition_penalty)
      .def_readwrite("frequency_penalty", &Sampling::frequency_penalty)
      .def_readwrite("presence_penalty", &Sampling::presence_penalty)
      .def_readwrite("logit_bias", &Sampling::logit_bias);
  py::class_<Beams>(m, "Beams")
      .def(py::init<>())
      .def_readwrite("num_beams", &Beams::num_beams)
      .def_readwrite("length_penalty", &Beams::length_penalty)
      .def_readwrite("deterministic", &Beams::deterministic)
      .def_readwrite("seed", &Beams::seed);
  py::class_<Request>(m, "Request")
      .def(py::init<>())
      .def_readwrite("prompt", &Request::prompt)
      .def_readwrite("mask_position", &Request::mask_position)
      .def_readwrite("gmask", &Request::gmask)
      .def_readwrite("max_new_tokens", &Request::max_new_tokens)
      .def_readwrite("min_new_tokens", &Request::min_new_tokens)
      .def_readwrite("n", &Request::n)
      .def_readwrite("no_repeat_ngram_size", &Request::no_repeat_ngram_size)
      .def_readwrite("ignore_end", &Request::ignore_end)
      .def_readwrite("stop_ids", &Request::stop_ids)
      .def_readwrite("logprobs", &Request::logprobs)
      .def_readwrite("max_time_s", &Request::max_time_s)
      .def_readwrite("share_key", &Request::share_key)
      .def_readwrite("sampling", &Request::sampling)
      .def_readwrite("beams", &Request::beams);

  py::class_<Event>(m, "Event")
      .def_readonly("request", &Event::request)
      .def_readonly("index", &Event::index)
      .def_readonly("token", &Event::token)
      .def_readonly("logprob", &Event::logprob)
      .def_readonly("top", &Event::top)
      .def_property_readonly("finish", [](const Event& e) { return std::string(name(e.finish)); })
      .def_readonly("beams", &Event::beams)
      .def_readonly("scores", &Event::scores)
      .def_readonly("message", &Event::message)
      .def_readonly("started", &Event::started);

  py::class_<Engine>(m, "Engine")
      .def(py::init<const ModelConfig&, const EngineConfig&, const std::string&, const std::vector<ShardSource>&>(),
           py::call_guard<py::gil_scoped_release>())
      .def("submit", &Engine::submit, py::call_guard<py::gil_scoped_release>())
      .def("cancel", &Engine::cancel, py::call_guard<py::gil_scoped_release>())
      .def("poll", &Engine::poll, py::call_guard<py::gil_scoped_release>())
      .def("score", &score)
      .def("stats",
           [](Engine& engine) {
             EngineStats stats;
             {
               const py::gil_scoped_release release;
               stats = engine.stats();
             }
             return to_dict(stats);
           })
      .def("close", &Engine::close, py::call_guard<py::gil_scoped_release>());

  bind_ops(m);
}
