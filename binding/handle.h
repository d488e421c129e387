// JavaScript objects that own native state. A class instance of lib/ is wrapped and type-tagged
// itself, so that the native side takes the user's objects as they are and a wrong one is an error,
// not a crash.
//
// The tag holds the address of a variable of this module: a handle made by another copy of the
// package, whose structs may look different, does not pass for one of ours.
//
// A handle also has a number in its environment's table. lib/ keeps it in a private field, so that
// functions that are called often take numbers: looking an object up costs a hundred times more.
#pragma once

#include <napi.h>

#include <memory>
#include <utility>

#include "binding/environment.h"

namespace spindlekv {

// Specialised per wrapped type: static const char kName[], and a number of its own as kKind.
template <typename T>
struct HandleTraits;

inline napi_type_tag tag_of_kind(uint64_t kind) {
  static const char module_anchor = 0;
  return {0x5b1d1e6b76000000ULL + kind, reinterpret_cast<uintptr_t>(&module_anchor)};
}

// What a wrapped object owns: a share of its state, and its number for as long as it lives.
template <typename T>
struct HandleShare {
  std::shared_ptr<T> state;
  std::shared_ptr<Environment> environment;
  int32_t number = -1;

  ~HandleShare() {
    if (number >= 0) environment->handles.remove(number);
  }
};

inline constexpr int32_t kNoHandle = -1;

// Gives `object` a share of `state` and returns its number; kNoHandle when it is wrapped already.
// The share is dropped when the object is collected.
template <typename T>
int32_t wrap_handle(napi_env env, napi_value object, std::shared_ptr<T> state) {
  const napi_type_tag tag = tag_of_kind(HandleTraits<T>::kKind);
  auto share = std::make_unique<HandleShare<T>>();
  share->state = std::move(state);
  share->environment = environment_of(env);
  const auto finalize = [](napi_env, void* data, void*) {
    delete static_cast<HandleShare<T>*>(data);
  };
  if (napi_wrap(env, object, share.get(), finalize, nullptr, nullptr) != napi_ok) return kNoHandle;
  HandleShare<T>* const wrapped = share.release();
  if (napi_type_tag_object(env, object, &tag) != napi_ok) return kNoHandle;
  wrapped->number = wrapped->environment->handles.add(HandleTraits<T>::kKind, wrapped->state.get());
  return wrapped->number;
}

// The state of a handle, or nullptr for anything that is not one of this kind.
template <typename T>
std::shared_ptr<T> unwrap_handle(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  if (value == nullptr || napi_typeof(env, value, &type) != napi_ok || type != napi_object) {
    return nullptr;
  }
  const napi_type_tag tag = tag_of_kind(HandleTraits<T>::kKind);
  bool has_tag = false;
  if (napi_check_object_type_tag(env, value, &tag, &has_tag) != napi_ok || !has_tag) return nullptr;
  void* share = nullptr;
  if (napi_unwrap(env, value, &share) != napi_ok || share == nullptr) return nullptr;
  return static_cast<HandleShare<T>*>(share)->state;
}

}  // namespace spindlekv
