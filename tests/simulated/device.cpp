// A device with memory of its own, to run without a GPU what runs on one: every operation is the CPU's, but tensors of
// both sides do not mix, as on CUDA, and what would make the CPU wait for the device is counted.
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/InferSize.h>
#include <ATen/TensorUtils.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <set>
#include <string>

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
std::atomic<int64_t> waits{0};
thread_local int inside = 0;  // the fallback's own copies are no waits

void wait() {
  if (!inside) ++waits;
}

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* data = std::malloc(bytes ? bytes : 1);
    return {data, data, &std::free, c10::Device(KIND, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};
Memory memory;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  Guard() = default;
  explicit Guard(c10::DeviceType) {}
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device) const override { return {KIND, 0}; }
  c10::Device getDevice() const override { return {KIND, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getDefaultStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

// The same memory, seen as the CPU's.
at::Tensor here(const at::Tensor& there) {
  if (there.device().is_cpu()) return there;
  auto options = there.options().device(at::kCPU).requires_grad(false);
  auto* base = const_cast<void*>(there.storage().data());
  auto offset = there.storage_offset() * static_cast<int64_t>(there.element_size());
  return at::from_blob(static_cast<char*>(base) + offset, there.sizes(), there.strides(), options);
}

void refuse_a_mixture(const std::string& name, const at::Tensor& tensor) {
  static const std::set<std::string> taking_indices{
      "aten::index.Tensor", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"};
  if (!tensor.defined() || !tensor.device().is_cpu() || tensor.dim() == 0 || taking_indices.count(name)) return;
  TORCH_CHECK(false, name, ": expected all tensors on the device, found one of shape ", tensor.sizes(), " on the CPU");
}

// Whose answer's shape or value the CPU has to know.
bool waited_for(const std::string& name) {
  static const std::set<std::string> known{
      "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive",
      "aten::equal", "aten::bincount", "aten::repeat_interleave.Tensor", "aten::is_nonzero", "aten::histc"};
  return known.count(name);
}

void by_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  auto name = schema.operator_name().name;
  if (!schema.overload_name().empty()) name += "." + schema.overload_name();
  for (const auto& value : torch::jit::last(stack, schema.arguments().size())) {
    if (value.isTensor()) {
      refuse_a_mixture(name, value.toTensor());
    } else if (value.isTensorList()) {
      for (const auto& each : value.toTensorVector()) refuse_a_mixture(name, each);
    } else if (value.isGenerator()) {
      TORCH_CHECK(false, name, ": expected a generator of the device, found one of the CPU");
    }
  }
  if (waited_for(name)) wait();
  ++inside;
  try {
    at::native::cpu_fallback(op, stack);
  } catch (...) {
    --inside;
    throw;
  }
  --inside;
}

at::Tensor empty(
    c10::SymIntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
    std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(
      C10_AS_INTARRAYREF_SLOW(size), &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      c10::dtype_or_default(type), format);
}

at::Tensor empty_strided(
    c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> type,
    std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &memory,
      c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(type));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (to.device().is_cpu() || (from.device().is_cpu() && !non_blocking)) wait();
  here(to).copy_(here(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  here(to).copy_(here(from));
  return to;
}

at::Scalar value(const at::Tensor& tensor) {
  wait();
  return here(tensor).item();
}

const at::Tensor& resize(const at::Tensor& tensor, c10::SymIntArrayRef size, std::optional<at::MemoryFormat>) {
  auto sizes = C10_AS_INTARRAYREF_SLOW(size);
  auto* impl = tensor.unsafeGetTensorImpl();
  auto bytes = at::detail::computeStorageNbytesContiguous(sizes, tensor.element_size(), tensor.storage_offset());
  auto& storage = tensor.storage();
  if (storage.nbytes() < bytes) {
    auto data = memory.allocate(bytes);
    std::memcpy(data.get(), storage.data(), storage.nbytes());
    storage.set_data_ptr(std::move(data));
    storage.set_nbytes(bytes);
  }
  impl->set_sizes_contiguous(sizes);
  return tensor;
}

at::Tensor as_strided(
    const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<c10::SymInt> offset) {
  auto seen = at::detail::make_tensor<c10::TensorImpl>(
      c10::TensorImpl::VIEW, c10::Storage(self.storage()), self.key_set(), self.dtype());
  auto* impl = seen.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(
      C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
      offset ? std::optional<int64_t>(offset->expect_int()) : self.storage_offset());
  return seen;
}

at::Tensor view(const at::Tensor& self, c10::SymIntArrayRef size) {
  auto asked = C10_AS_INTARRAYREF_SLOW(size);
  auto sizes = at::infer_size_dv(asked, self.numel());
  auto strides = at::detail::computeStride(self.sizes(), self.strides(), sizes);
  TORCH_CHECK(strides.has_value(), "view: these sizes need a copy; use reshape");
  return self.as_strided(sizes, *strides, self.storage_offset());
}

at::Tensor reshape_alias(const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return self.as_strided(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), self.storage_offset());
}

at::Tensor there_of(const at::Tensor& answer, const at::Tensor& like) {
  ++inside;
  auto there = answer.to(like.device());
  --inside;
  return there;
}

at::Tensor convolution(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef output_padding,
    c10::SymInt groups) {
  for (const auto& each : {input, weight}) refuse_a_mixture("aten::convolution", each);
  auto add = bias && bias->defined() ? std::optional<at::Tensor>(here(*bias)) : std::nullopt;
  at::Tensor answer = at::convolution_symint(here(input), here(weight), add, stride, padding, dilation, transposed, output_padding, groups);
  return there_of(answer, input);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef output_padding,
    c10::SymInt groups, std::array<bool, 3> wanted) {
  std::vector<c10::SymInt> biases{weight.sym_size(transposed ? 1 : 0)};
  auto [a, b, c] = at::convolution_backward_symint(
      here(gradient), here(input), here(weight), c10::SymIntArrayRef(biases), stride, padding, dilation, transposed,
      output_padding, groups, wanted);
  auto there = [&](const at::Tensor& each) { return each.defined() ? there_of(each, input) : each; };
  return {there(a), there(b), there(c)};
}

// Its schema does not say that it writes the running statistics, so the fallback would lose them.
std::tuple<at::Tensor, at::Tensor, at::Tensor> batch_norm(
    const at::Tensor& input, const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& mean, const std::optional<at::Tensor>& variance, bool training, double momentum,
    double eps) {
  auto seen = [](const std::optional<at::Tensor>& each) {
    if (!each || !each->defined()) return std::optional<at::Tensor>();
    refuse_a_mixture("aten::native_batch_norm", *each);
    return std::optional<at::Tensor>(here(*each));
  };
  auto [a, b, c] = at::native_batch_norm(
      here(input), seen(weight), seen(bias), seen(mean), seen(variance), training, momentum, eps);
  return {there_of(a, input), there_of(b, input), there_of(c, input)};
}

}  // namespace

namespace c10::impl {
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);
}
namespace {
struct Registered {
  Registered() {
    c10::SetAllocator(KIND, &memory);
    static Hooks hooks;
    at::RegisterPrivateUse1HooksInterface(&hooks);
  }
} registered;
}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&by_the_cpu>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", value);
  m.impl("resize_", resize);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("native_batch_norm", batch_norm);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}

TORCH_LIBRARY(simulated, m) {
  m.def("waits() -> int", []() -> int64_t { return waits.load(); });
}
