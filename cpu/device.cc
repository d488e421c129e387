// Opening and describing the CPU, and its memory.
#include "cpu/device.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <thread>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace spindlekv::cpu {
namespace {

constexpr int32_t kMaxThreads = 1024;
constexpr size_t kHugePage = size_t{2} << 20;  // of x86-64, and of AArch64 with pages of 4 KiB

// The processor's own name for itself, or the architecture's name.
std::string processor_name() {
#if defined(__x86_64__)
  unsigned words[12];
  if (__get_cpuid_max(0x80000000u, nullptr) >= 0x80000004u) {
    for (unsigned part = 0; part < 3; ++part) {
      unsigned* w = words + 4 * part;
      __get_cpuid(0x80000002u + part, w, w + 1, w + 2, w + 3);
    }
    char text[sizeof(words) + 1] = {0};
    std::memcpy(text, words, sizeof(words));
    const char* begin = text;
    while (*begin == ' ') ++begin;
    if (*begin != '\0') return begin;
  }
  return "x86-64";
#elif defined(__aarch64__)
  return "AArch64";
#else
  return "CPU";
#endif
}

// Fewer, larger pages: one miss of the address cache where there were 512, and one fault of a fresh
// block. A wish: the system may have none, and then small pages hold the block as they would have.
void ask_for_huge_pages([[maybe_unused]] void* block, [[maybe_unused]] size_t bytes) {
#if defined(MADV_HUGEPAGE)
  madvise(block, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
}

}  // namespace

Status device_count(int32_t* count) {
  *count = 1;
  return ok_status();
}

Status open_device(int32_t ordinal, int32_t threads, SkvDevice** device) {
  *device = nullptr;
  if (ordinal != 0) {
    return error_status(SKV_NO_DEVICE, "open", "expected 0 for the CPU's ordinal, got %d", ordinal);
  }
  if (threads < 0 || threads > kMaxThreads) {
    return error_status(SKV_ARGUMENT, "open", "expected 0..%d for threads, got %d", kMaxThreads,
                        threads);
  }
  Isa isa;
  SKV_RETURN_IF_ERROR(choose_isa(&isa));
  const unsigned cores = std::thread::hardware_concurrency();
  const int lanes = threads != 0 ? threads : (cores == 0 ? 1 : static_cast<int>(cores));

  SkvDevice* opened = new (std::nothrow) SkvDevice;
  if (opened == nullptr) {
    return error_status(SKV_OUT_OF_MEMORY, "open", "expected %zu bytes for a device",
                        sizeof(SkvDevice));
  }
  opened->isa = isa;
  const Status status = opened->pool.start(lanes);
  if (!is_ok(status)) {
    delete opened;
    return status;
  }
  *device = opened;
  return ok_status();
}

void close_device(SkvDevice* device) { delete device; }

Status describe_device(SkvDevice* device, SkvDeviceInfo* info) {
  std::memset(info, 0, sizeof(*info));
  std::snprintf(info->name, sizeof(info->name), "%s", processor_name().c_str());
  info->threads = device->pool.lanes();
  std::snprintf(info->detail, sizeof(info->detail), "%s, %d thread%s", isa_name(device->isa),
                info->threads, info->threads == 1 ? "" : "s");
#if defined(_SC_PHYS_PAGES) && defined(_SC_PAGESIZE)
  const int64_t page = sysconf(_SC_PAGESIZE);
  info->memory_total = page * static_cast<int64_t>(sysconf(_SC_PHYS_PAGES));
#if defined(_SC_AVPHYS_PAGES)
  info->memory_free = page * static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES));
#endif
#endif
  return ok_status();
}

Status allocate(SkvDevice*, size_t bytes, void** memory) {
  *memory = nullptr;
  if (bytes == 0) return ok_status();
  void* block = nullptr;
  const bool large = bytes >= kHugePage;
  const size_t alignment = large ? kHugePage : kAlignment;
  // posix_memalign refuses what cannot be rounded up, so a huge request is an error, not a
  // wrap-around.
  if (bytes > SIZE_MAX - alignment || posix_memalign(&block, alignment, bytes) != 0) {
    return error_status(SKV_OUT_OF_MEMORY, "allocate", "expected room for %zu bytes, got none",
                        bytes);
  }
  if (large) ask_for_huge_pages(block, bytes);
  *memory = block;
  return ok_status();
}

void release(SkvDevice*, void* memory) { std::free(memory); }

Status copy(SkvDevice*, void* dst, const void* src, size_t bytes, int32_t kind, void*) {
  if (kind < SKV_COPY_TO_DEVICE || kind > SKV_COPY_ON_DEVICE) {
    return error_status(SKV_ARGUMENT, "copy", "expected 0..2 for kind, got %d", kind);
  }
  // Both sides are host memory; ranges may overlap within one buffer.
  if (bytes != 0) std::memmove(dst, src, bytes);
  return ok_status();
}

Status fill(SkvDevice*, void* dst, int32_t byte_value, size_t bytes, void*) {
  if (bytes != 0) std::memset(dst, byte_value, bytes);
  return ok_status();
}

Status create_stream(SkvDevice*, void** stream) {
  *stream = nullptr;
  return ok_status();
}

void destroy_stream(SkvDevice*, void*) {}

Status synchronize(SkvDevice*, void*) { return ok_status(); }

}  // namespace spindlekv::cpu
