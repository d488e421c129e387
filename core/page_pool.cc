#include "core/page_pool.h"

#include <algorithm>
#include <iterator>

namespace spindlekv {

Extent::Extent(std::shared_ptr<PagePool> pool, std::byte* data, size_t bytes)
    : pool_(std::move(pool)), data_(data), bytes_(bytes) {}

Extent::~Extent() { pool_->give_back(data_, bytes_); }

PagePool::PagePool(std::shared_ptr<DeviceMemory> memory, size_t page_bytes, size_t slab_bytes)
    : memory_(std::move(memory)), page_bytes_(page_bytes), slab_bytes_(slab_bytes) {}

PagePool::~PagePool() {
  for (const auto& [address, slab] : slabs_) memory_->release(slab.data, slab.bytes);
}

Status PagePool::allocate(size_t bytes, ExtentRef* extent) {
  extent->reset();
  if (bytes == 0) return ok_status();
  const size_t wanted = rounded(bytes);
  std::byte* data = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto fit = free_by_size_.lower_bound(wanted);
    if (fit == free_by_size_.end()) {
      const size_t slab_bytes = std::max(slab_bytes_, wanted);
      void* memory = nullptr;
      SKV_RETURN_IF_ERROR(memory_->allocate(slab_bytes, &memory));
      std::byte* first = static_cast<std::byte*>(memory);
      slabs_.emplace(first, Slab{first, slab_bytes, 0});
      bytes_reserved_ += slab_bytes;
      insert_free(first, slab_bytes);
      fit = free_by_size_.lower_bound(wanted);
    }
    data = fit->second;
    const size_t range_bytes = fit->first;
    erase_free(free_by_address_.find(data));
    if (range_bytes > wanted) insert_free(data + wanted, range_bytes - wanted);
    std::prev(slabs_.upper_bound(data))->second.used += wanted;
    bytes_used_ += wanted;
    peak_bytes_used_ = std::max(peak_bytes_used_, bytes_used_);
  }
  *extent = std::make_shared<Extent>(shared_from_this(), data, wanted);
  return ok_status();
}

void PagePool::give_back(std::byte* data, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto slab = std::prev(slabs_.upper_bound(data));
  slab->second.used -= bytes;
  bytes_used_ -= bytes;
  // Join with free neighbours of the same slab, so that "never adjacent" holds.
  const std::byte* slab_end = slab->second.data + slab->second.bytes;
  auto after = free_by_address_.find(data + bytes);
  if (after != free_by_address_.end() && after->first < slab_end) {
    bytes += after->second;
    erase_free(after);
  }
  auto before = free_by_address_.lower_bound(data);
  if (before != free_by_address_.begin()) {
    --before;
    if (before->first >= slab->second.data && before->first + before->second == data) {
      data = before->first;
      bytes += before->second;
      erase_free(before);
    }
  }
  if (slab->second.used == 0) {
    // The whole slab is free: the device gets it back at once, so that eviction is seen outside
    // too.
    bytes_reserved_ -= slab->second.bytes;
    memory_->release(slab->second.data, slab->second.bytes);
    slabs_.erase(slab);
    return;
  }
  insert_free(data, bytes);
}

void PagePool::insert_free(std::byte* data, size_t bytes) {
  free_by_address_.emplace(data, bytes);
  free_by_size_.emplace(bytes, data);
}

void PagePool::erase_free(std::map<std::byte*, size_t>::iterator range) {
  auto [first, last] = free_by_size_.equal_range(range->second);
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second == range->first) {
      free_by_size_.erase(entry);
      break;
    }
  }
  free_by_address_.erase(range);
}

PoolStats PagePool::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return PoolStats{
      static_cast<int64_t>(page_bytes_),   static_cast<int64_t>(bytes_used_ / page_bytes_),
      static_cast<int64_t>(bytes_used_),   static_cast<int64_t>(bytes_reserved_),
      static_cast<int64_t>(slabs_.size()), static_cast<int64_t>(peak_bytes_used_)};
}

}  // namespace spindlekv
