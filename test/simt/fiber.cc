// Fiber stacks and the context switch (x86-64 and aarch64 in assembly, ucontext elsewhere).
#include "test/simt/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SKV_SIMT_ASAN 1
#else
#define SKV_SIMT_ASAN 0
#endif

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#define SKV_SIMT_UCONTEXT 1
#else
#define SKV_SIMT_UCONTEXT 0
#endif

namespace spindlekv::simt {
namespace {

// Kernels keep little on the stack, but unoptimised and sanitized frames are several times larger.
constexpr size_t kStackBytes = SKV_SIMT_ASAN ? size_t{256} << 10 : size_t{64} << 10;

}  // namespace

#if !SKV_SIMT_UCONTEXT
extern "C" void skv_simt_switch(void** save_stack_pointer, void* load_stack_pointer)
    __attribute__((visibility("hidden")));
#endif

#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl skv_simt_switch
.hidden skv_simt_switch
.type skv_simt_switch, @function
skv_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size skv_simt_switch, .-skv_simt_switch
)");

namespace {
constexpr size_t kSavedWords = 6;  // the pushes above

void* initial_stack_pointer(std::byte* stack, size_t bytes, FiberEntry entry) {
  // At a function's entry the stack pointer is 8 modulo 16 and points to the return address.
  auto* top = reinterpret_cast<uint64_t*>(stack + bytes);
  *--top = 0;  // return address of `entry`, never used
  *--top = reinterpret_cast<uint64_t>(entry);
  for (size_t word = 0; word < kSavedWords; ++word) *--top = 0;
  return top;
}
}  // namespace
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.globl skv_simt_switch
.hidden skv_simt_switch
.type skv_simt_switch, %function
skv_simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size skv_simt_switch, .-skv_simt_switch
)");

namespace {
constexpr size_t kSavedWords = 20;  // 160 bytes
constexpr size_t kReturnWord = 11;  // x30

void* initial_stack_pointer(std::byte* stack, size_t bytes, FiberEntry entry) {
  auto* frame = reinterpret_cast<uint64_t*>(stack + bytes) - kSavedWords;
  std::memset(frame, 0, kSavedWords * sizeof(uint64_t));
  frame[kReturnWord] = reinterpret_cast<uint64_t>(entry);
  return frame;
}
}  // namespace
#endif

FiberPool::~FiberPool() {
  const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (auto& fiber : fibers_) {
#if SKV_SIMT_ASAN
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes);
#endif
#if SKV_SIMT_UCONTEXT
    delete static_cast<ucontext_t*>(fiber->fallback_context);
#endif
    munmap(fiber->stack - guard, fiber->stack_bytes + guard);
  }
}

bool FiberPool::reserve(size_t count) {
  const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  while (fibers_.size() < count) {
    // One inaccessible page below each stack turns an overflow into a fault at the culprit.
    void* memory = mmap(nullptr, kStackBytes + guard, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    if (mprotect(memory, guard, PROT_NONE) != 0) {
      munmap(memory, kStackBytes + guard);
      return false;
    }
    auto fiber = std::make_unique<Fiber>();
    fiber->stack = static_cast<std::byte*>(memory) + guard;
    fiber->stack_bytes = kStackBytes;
    fibers_.push_back(std::move(fiber));
  }
  return true;
}

void FiberPool::prepare(size_t index, FiberEntry entry) {
  Fiber& fiber = *fibers_[index];
  fiber.fake_stack = nullptr;
#if SKV_SIMT_ASAN
  // An abandoned fiber leaves red zones of dead frames behind.
  __asan_unpoison_memory_region(fiber.stack, fiber.stack_bytes);
#endif
#if SKV_SIMT_UCONTEXT
  if (fiber.fallback_context == nullptr) fiber.fallback_context = new ucontext_t;
  auto* context = static_cast<ucontext_t*>(fiber.fallback_context);
  getcontext(context);
  context->uc_stack.ss_sp = fiber.stack;
  context->uc_stack.ss_size = fiber.stack_bytes;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
#else
  fiber.stack_pointer = initial_stack_pointer(fiber.stack, fiber.stack_bytes, entry);
#endif
}

void switch_to(FiberHost& host, Fiber& fiber) {
#if SKV_SIMT_ASAN
  __sanitizer_start_switch_fiber(&host.fake_stack, fiber.stack, fiber.stack_bytes);
#endif
#if SKV_SIMT_UCONTEXT
  ucontext_t here;
  host.fallback_context = &here;
  swapcontext(&here, static_cast<ucontext_t*>(fiber.fallback_context));
#else
  skv_simt_switch(&host.stack_pointer, fiber.stack_pointer);
#endif
#if SKV_SIMT_ASAN
  __sanitizer_finish_switch_fiber(host.fake_stack, nullptr, nullptr);
#endif
}

void switch_back(Fiber& fiber, FiberHost& host, [[maybe_unused]] bool ends) {
#if SKV_SIMT_ASAN
  __sanitizer_start_switch_fiber(ends ? nullptr : &fiber.fake_stack, host.stack_bottom,
                                 host.stack_bytes);
#endif
#if SKV_SIMT_UCONTEXT
  swapcontext(static_cast<ucontext_t*>(fiber.fallback_context),
              static_cast<ucontext_t*>(host.fallback_context));
#else
  skv_simt_switch(&fiber.stack_pointer, host.stack_pointer);
#endif
#if SKV_SIMT_ASAN
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &host.stack_bottom, &host.stack_bytes);
#endif
}

void on_fiber_entry([[maybe_unused]] FiberHost& host) {
#if SKV_SIMT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &host.stack_bottom, &host.stack_bytes);
#endif
}

}  // namespace spindlekv::simt
