// Device memory for cached slots: extents of whole pages, cut from slabs and given back when the
// last owner lets go. Integers and addresses only; the pool never reads or writes what it hands
// out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "core/memory.h"
#include "core/status.h"

namespace spindlekv {

class PagePool;

// A contiguous range of pages. Shared by the caches that forked from one another; the last owner's
// release returns the pages to the pool (which the extent keeps alive).
class Extent {
 public:
  Extent(std::shared_ptr<PagePool> pool, std::byte* data, size_t bytes);
  ~Extent();
  Extent(const Extent&) = delete;
  Extent& operator=(const Extent&) = delete;

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<PagePool> pool_;
  std::byte* data_;
  size_t bytes_;
};

using ExtentRef = std::shared_ptr<Extent>;

struct PoolStats {
  int64_t page_bytes;  // granule of every extent
  int64_t pages_used;
  int64_t bytes_used;      // pages_used * page_bytes
  int64_t bytes_reserved;  // slabs taken from the device
  int64_t slabs;
  int64_t peak_bytes_used;
};

class PagePool : public std::enable_shared_from_this<PagePool> {
 public:
  // page_bytes: multiple of 64; slab_bytes: multiple of page_bytes. The device outlives the pool.
  PagePool(std::shared_ptr<DeviceMemory> memory, size_t page_bytes, size_t slab_bytes);
  ~PagePool();

  // Smallest number of whole pages holding `bytes`; bytes = 0 gives an empty reference.
  [[nodiscard]] Status allocate(size_t bytes, ExtentRef* extent);
  size_t rounded(size_t bytes) const {
    return (bytes + page_bytes_ - 1) / page_bytes_ * page_bytes_;
  }
  size_t slab_bytes() const { return slab_bytes_; }
  PoolStats stats() const;
  DeviceMemory& memory() const { return *memory_; }

 private:
  friend class Extent;
  struct Slab {
    std::byte* data;
    size_t bytes;
    size_t used;
  };

  void give_back(std::byte* data, size_t bytes);
  void insert_free(std::byte* data, size_t bytes);
  void erase_free(std::map<std::byte*, size_t>::iterator range);

  std::shared_ptr<DeviceMemory> memory_;
  const size_t page_bytes_;
  const size_t slab_bytes_;
  mutable std::mutex mutex_;
  std::map<std::byte*, Slab> slabs_;                // by first byte
  std::map<std::byte*, size_t> free_by_address_;    // free ranges, never adjacent inside a slab
  std::multimap<size_t, std::byte*> free_by_size_;  // the same ranges: best fit
  size_t bytes_used_ = 0;
  size_t bytes_reserved_ = 0;
  size_t peak_bytes_used_ = 0;
};

}  // namespace spindlekv
